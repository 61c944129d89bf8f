use proptest::prelude::*;

use super::*;
use crate::{Position, number_key};

number_key!(
    /// A number, as other crates make them.
    struct RoomNumber
);

fn encoded<K: Key>(key: &K) -> Vec<u8> {
    let mut out = Writer::new();
    key.encode(&mut out);
    out.bytes().to_vec()
}

/// Checks order, that nothing is lost, and that no encoding begins another.
fn check<K: Key + Ord + std::fmt::Debug>(one: K, other: K) {
    let (left, right) = (encoded(&one), encoded(&other));
    assert_eq!(one.cmp(&other), left.cmp(&right), "{one:?} and {other:?}");
    if one != other {
        assert!(!left.starts_with(&right), "{other:?} begins {one:?}");
        assert!(!right.starts_with(&left), "{one:?} begins {other:?}");
    }
    let followed = [&left[..], b"more"].concat();
    let mut input = Reader::new(&followed);
    assert_eq!(K::decode(&mut input).unwrap(), one);
    assert_eq!(input.rest(), b"more");
}

proptest! {
    #[test]
    fn numbers_sort_as_they_are(one: (u8, u16, u32, u64), other: (u8, u16, u32, u64)) {
        check(one, other);
    }

    #[test]
    fn signed_numbers_sort_as_they_are(one: i64, other: i64) {
        check(one, other);
    }

    #[test]
    fn byte_strings_sort_as_they_are(
        one in prop::collection::vec(
            prop_oneof![Just(0_u8), Just(1), Just(0xff), any::<u8>()],
            0..6,
        ),
        other in prop::collection::vec(
            prop_oneof![Just(0_u8), Just(1), Just(0xff), any::<u8>()],
            0..6,
        ),
    ) {
        check(one, other);
    }

    #[test]
    fn strings_in_tuples_sort_part_by_part(
        one in ("[\0-\u{2}a-bÿ\u{10ffff}]{0,4}", any::<Option<u64>>(), any::<bool>()),
        other in ("[\0-\u{2}a-bÿ\u{10ffff}]{0,4}", any::<Option<u64>>(), any::<bool>()),
    ) {
        check(one, other);
    }

    #[test]
    fn own_numbers_and_arrays_sort(one: (u64, [u8; 3], i64), other: (u64, [u8; 3], i64)) {
        let make = |(number, array, sign)| {
            (RoomNumber::new(number), Some(Position::new(number / 2)), array, sign, ((),))
        };
        check(make(one), make(other));
    }

    #[test]
    fn damaged_keys_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
        type Odd = (Option<String>, Vec<u8>, bool, i64, [u8; 2]);
        let mut input = Reader::new(&bytes);
        if let Ok(key) = Odd::decode(&mut input) {
            let read = bytes.len() - input.len();
            assert_eq!(encoded(&key), bytes[..read]);
        }
    }
}

#[test]
fn the_beginning_of_a_string_finds_what_begins_so() {
    let prefix = encoded(&(7_u64, Leading("#ma\0".to_owned())));
    assert!(encoded(&(7_u64, "#ma\0trix".to_owned())).starts_with(&prefix));
    assert!(!encoded(&(7_u64, "#ma".to_owned())).starts_with(&prefix));
}

#[test]
fn own_numbers_read_as_numbers() {
    let room = RoomNumber::new(7);
    assert_eq!(room.next().get(), 8);
    assert_eq!(room.to_string(), "7");
    assert_eq!(serde_json::to_string(&room).unwrap(), "7");
    assert_eq!(serde_json::from_str::<RoomNumber>("7").unwrap(), room);
}
