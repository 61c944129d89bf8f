use rand::{SeedableRng as _, rngs::StdRng};

use super::*;

fn target(host: &str, priority: u16, weight: u16) -> Target {
    Target { priority, weight, host: host.to_owned(), port: 1 }
}

#[test]
fn targets_are_tried_by_priority_and_by_chance_according_to_weight() {
    let targets = [target("late", 20, 9), target("heavy", 10, 90), target("light", 10, 10)];
    let mut heavy_first = 0;
    for seed in 0..1_000 {
        let ordered = in_order(targets.to_vec(), &mut StdRng::seed_from_u64(seed));
        let hosts: Vec<_> = ordered.iter().map(|target| target.host.as_str()).collect();
        assert_eq!((hosts.len(), hosts[2]), (3, "late"));
        heavy_first += u32::from(hosts[0] == "heavy");
    }
    assert!((850..950).contains(&heavy_first), "{heavy_first}");
}

#[test]
fn targets_without_weight_are_all_tried() {
    let targets = vec![target("a", 1, 0), target("b", 1, 0), target("c", 0, u16::MAX)];
    let ordered = in_order(targets, &mut StdRng::seed_from_u64(1));
    assert_eq!((ordered.len(), ordered[0].host.as_str()), (3, "c"));
    assert!(in_order(Vec::new(), &mut StdRng::seed_from_u64(1)).is_empty());
}

#[test]
fn both_families_have_their_turn() {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let v4 = ["1.1.1.1:1", "1.1.1.2:1", "1.1.1.3:1"].map(address);
    let v6 = ["[2001::1]:1", "[2001::2]:1"].map(address);
    let all = [v4[0], v4[1], v6[0], v4[2], v6[1]].to_vec();
    assert_eq!(in_turns(all), [v6[0], v4[0], v6[1], v4[1], v4[2]]);
}
