//! A macro that makes numbered things distinct types.

/// Makes a `Copy` newtype over `u64` that is a [`Key`](crate::Key) and a [`Value`](crate::Value),
/// with serde, `Display`, `new`, `get` and `next`.
///
/// ```
/// store::number_key!(
///     /// Number of a room on this server.
///     pub struct RoomNumber
/// );
/// assert_eq!(RoomNumber::new(7).to_string(), "7");
/// ```
#[macro_export]
macro_rules! number_key {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident $(;)?) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visibility struct $name(u64);

        impl $name {
            /// Makes the one with this number.
            #[must_use]
            $visibility const fn new(number: u64) -> Self {
                Self(number)
            }

            /// Returns the number.
            #[must_use]
            $visibility const fn get(self) -> u64 {
                self.0
            }

            /// Returns the one after this one.
            #[must_use]
            $visibility const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl ::core::fmt::Display for $name {
            fn fmt(&self, formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::core::fmt::Display::fmt(&self.0, formatter)
            }
        }

        impl $crate::Key for $name {
            fn encode(&self, out: &mut $crate::Writer) {
                $crate::Key::encode(&self.0, out);
            }

            fn decode(
                input: &mut $crate::Reader<'_>,
            ) -> ::core::result::Result<Self, $crate::StoreError> {
                <u64 as $crate::Key>::decode(input).map(Self)
            }
        }

        impl $crate::Value for $name {
            fn encode(&self, out: &mut $crate::Writer) {
                $crate::Value::encode(&self.0, out);
            }

            fn decode(bytes: &[u8]) -> ::core::result::Result<Self, $crate::StoreError> {
                <u64 as $crate::Value>::decode(bytes).map(Self)
            }
        }

        impl $crate::macro_support::serde::Serialize for $name {
            fn serialize<S: $crate::macro_support::serde::Serializer>(
                &self,
                serializer: S,
            ) -> ::core::result::Result<S::Ok, S::Error> {
                $crate::macro_support::serde::Serialize::serialize(&self.0, serializer)
            }
        }

        impl<'de> $crate::macro_support::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::macro_support::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::core::result::Result<Self, D::Error> {
                <u64 as $crate::macro_support::serde::Deserialize>::deserialize(deserializer)
                    .map(Self)
            }
        }
    };
}
