//! Users who asked to be erased: what they said is kept for those who were there, and pruned for
//! all others.
//!
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountdeactivate)

use std::collections::BTreeSet;

use ruma::{OwnedUserId, UserId};
use store::Batch;

use crate::{Rooms, error::Result, tables::ERASED};

impl Rooms {
    /// Erases a user: those who were not in a room when the user spoke there are no longer told
    /// what was said.
    ///
    /// # Errors
    /// [`crate::RoomsError::Store`].
    pub async fn erase(&self, user: &UserId) -> Result<()> {
        let mut batch = Batch::new();
        batch.put(&ERASED, &user.as_str().to_owned(), &self.now_ms());
        self.store().commit(batch).await?;
        Ok(())
    }

    /// Takes an erasure back, when the account is opened again.
    ///
    /// # Errors
    /// [`crate::RoomsError::Store`].
    pub async fn unerase(&self, user: &UserId) -> Result<()> {
        let mut batch = Batch::new();
        batch.delete(&ERASED, &user.as_str().to_owned());
        self.store().commit(batch).await?;
        Ok(())
    }

    /// Which of some users are erased.
    pub(crate) async fn erased_among(
        &self,
        users: BTreeSet<OwnedUserId>,
    ) -> Result<BTreeSet<OwnedUserId>> {
        if users.is_empty() {
            return Ok(users);
        }
        let keys: Vec<String> = users.iter().map(ToString::to_string).collect();
        let rows = self.store().multi_get(&ERASED, &keys).await?;
        Ok(users.into_iter().zip(rows).filter(|(_, row)| row.is_some()).map(|(u, _)| u).collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::life::Home;

    #[tokio::test]
    async fn those_who_came_later_see_what_an_erased_user_said_without_its_content() {
        let home = Home::new().await;
        let room = home.public_room("alice").await;
        home.join("bob", &room).await.unwrap();
        let said = home.say("alice", &room, "hello").await;
        home.join("carol", &room).await.unwrap();
        home.rooms.leave(&home.user("alice"), &room, None).await.unwrap();
        home.rooms.erase(&home.user("alice")).await.unwrap();
        let content = async |user: &str| {
            let served = home.rooms.event(&home.user(user), &room, &said).await.unwrap();
            served.event.pdu.content.get().to_owned()
        };
        assert!(content("bob").await.contains("hello"));
        assert_eq!(content("carol").await, "{}");
        home.rooms.unerase(&home.user("alice")).await.unwrap();
        assert!(content("carol").await.contains("hello"));
    }
}
