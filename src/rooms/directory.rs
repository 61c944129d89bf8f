//! The published directory: rooms that everybody may find.

mod entry;
#[cfg(test)]
mod tests;

use std::{cmp::Reverse, fmt, ops::Bound, str::FromStr};

use ruma::{
    RoomId, ServerName, UserId,
    directory::{Filter, PublicRoomsChunk},
};
use store::{Batch, Direction, Page};

use crate::{
    Rooms,
    create::Visibility,
    error::{Result, RoomsError},
    tables::{DIRECTORY, RoomNumber},
};

/// Most published rooms that are looked at; those beyond are not found by listing.
const PUBLISHED_MAX: usize = 20_000;

/// How many rows of the directory are read at a time.
const DIRECTORY_PAGE_LEN: usize = 1_024;

/// How many rooms one page has where the client does not say, and at most.
const LIMIT_MAX: usize = 500;

/// How many rooms are looked at for one page of a search.
const LOOKS_MAX: usize = 2_000;

/// Which page of the directory is wanted.
#[derive(Clone, Debug, Default)]
pub struct PublicRoomsQuery {
    /// How many rooms at most.
    pub limit: Option<usize>,
    /// Where to begin: a token from an earlier page.
    pub since: Option<String>,
    /// Which rooms.
    pub filter: Filter,
}

/// A page of the directory, the largest rooms first.
#[derive(Clone, Debug, Default)]
pub struct PublicRoomsPage {
    /// The rooms.
    pub chunk: Vec<PublicRoomsChunk>,
    /// Where the next page begins, if there is one.
    pub next_batch: Option<String>,
    /// Where the page before begins, if there is one.
    pub prev_batch: Option<String>,
    /// How many rooms are published, whatever the filter.
    pub total_estimate: u64,
}

/// The place of a room in the directory: first the large ones.
type Rank = (Reverse<u64>, RoomNumber);

/// A place between two rooms of the directory, as clients hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    direction: Direction,
    rank: Rank,
}

impl fmt::Display for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match self.direction {
            Direction::Forward => 'n',
            Direction::Backward => 'p',
        };
        write!(formatter, "{way}{}_{}", self.rank.0.0, self.rank.1)
    }
}

impl FromStr for Token {
    type Err = RoomsError;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || RoomsError::invalid_param("since is no token of ours");
        let (direction, rest) = match (text.strip_prefix('n'), text.strip_prefix('p')) {
            (Some(rest), _) => (Direction::Forward, rest),
            (_, Some(rest)) => (Direction::Backward, rest),
            _ => return Err(bad()),
        };
        let (joined, room) = rest.split_once('_').ok_or_else(bad)?;
        let joined = joined.parse().map_err(|_| bad())?;
        let room = room.parse().map_err(|_| bad())?;
        Ok(Self { direction, rank: (Reverse(joined), RoomNumber::new(room)) })
    }
}

impl Rooms {
    /// Whether a room is published.
    ///
    /// # Errors
    /// [`RoomsError::NotFound`] when there is no such room.
    pub async fn directory_visibility(&self, room_id: &RoomId) -> Result<Visibility> {
        let room = self.load_room(room_id).await?;
        let row = self.store().get(&DIRECTORY, &room.number).await?;
        Ok(row.map_or(Visibility::Private, |()| Visibility::Public))
    }

    /// Publishes a room, or takes it off the list. That needs the power to name the room's aliases.
    ///
    /// # Errors
    /// - [`RoomsError::NotFound`] when there is no such room.
    /// - [`RoomsError::Forbidden`] when the user may not.
    pub async fn set_directory_visibility(
        &self,
        user: &UserId,
        room_id: &RoomId,
        visibility: Visibility,
    ) -> Result<()> {
        let room = self.load_room(room_id).await?;
        if !self.may_set_aliases(user, &room).await? {
            return Err(RoomsError::forbidden("you may not publish this room"));
        }
        let mut batch = Batch::new();
        match visibility {
            Visibility::Public => batch.put(&DIRECTORY, &room.number, &()),
            Visibility::Private => batch.delete(&DIRECTORY, &room.number),
        }
        self.store().commit(batch).await?;
        Ok(())
    }

    /// Lists published rooms, the largest first.
    ///
    /// # Errors
    /// [`RoomsError::InvalidParam`] when the token is none of ours.
    pub async fn public_rooms(&self, query: PublicRoomsQuery) -> Result<PublicRoomsPage> {
        let since: Option<Token> = query.since.as_deref().map(str::parse).transpose()?;
        let limit = query.limit.unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX);
        let ranks = self.published().await?;
        let total_estimate = ranks.len() as u64;
        let backward = since.is_some_and(|since| since.direction == Direction::Backward);
        let mut ahead: Vec<Rank> = match since {
            None => ranks.clone(),
            Some(Token { rank, direction: Direction::Forward }) => {
                ranks.iter().copied().filter(|other| *other > rank).collect()
            }
            Some(Token { rank, direction: Direction::Backward }) => {
                ranks.iter().rev().copied().filter(|other| *other < rank).collect()
            }
        };
        let more_than_looks = ahead.len() > LOOKS_MAX;
        ahead.truncate(LOOKS_MAX);
        let mut page: Vec<(Rank, PublicRoomsChunk)> = Vec::new();
        let mut looked_at: Option<Rank> = None;
        let mut rest = ahead.into_iter().peekable();
        while page.len() < limit
            && let Some(rank) = rest.next()
        {
            looked_at = Some(rank);
            let entry = self.directory_entry(rank.1).await?;
            if entry::matches(&entry, &query.filter) {
                page.push((rank, entry));
            }
        }
        let more = more_than_looks || rest.peek().is_some();
        let token = |rank, direction| Token { direction, rank }.to_string();
        let onward = looked_at.filter(|_| more);
        let edge = page.first().map(|(rank, _)| *rank);
        let came_from = since.and(edge);
        let (next, prev) = if backward {
            // Going back, the page was read from its end.
            page.reverse();
            (came_from, onward)
        } else {
            (onward, came_from)
        };
        Ok(PublicRoomsPage {
            chunk: page.into_iter().map(|(_, entry)| entry).collect(),
            next_batch: next.map(|rank| token(rank, Direction::Forward)),
            prev_batch: prev.map(|rank| token(rank, Direction::Backward)),
            total_estimate,
        })
    }

    /// Lists the published rooms of a server, ours or another.
    ///
    /// # Errors
    /// - As [`Rooms::public_rooms`].
    /// - [`RoomsError::Servers`] when the other server did not answer.
    pub async fn public_rooms_of(
        &self,
        server: &ServerName,
        mut query: PublicRoomsQuery,
    ) -> Result<PublicRoomsPage> {
        if server == self.server_name() {
            return self.public_rooms(query).await;
        }
        query.limit = Some(query.limit.unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX));
        let answer = self.inner.config.remote.public_rooms(server, &query).await;
        answer.map_err(|error| RoomsError::Servers { failures: vec![error] })
    }

    /// The published rooms in their order.
    async fn published(&self) -> Result<Vec<Rank>> {
        let mut ranks = Vec::new();
        let mut range = DIRECTORY.all();
        while ranks.len() < PUBLISHED_MAX {
            let page = Page::first(DIRECTORY_PAGE_LEN);
            let rows = self.store().scan(&DIRECTORY, range, page).await?;
            for (room, ()) in &rows {
                ranks.push((Reverse(self.head(*room).await?.joined_count()), *room));
            }
            match rows.last() {
                Some((last, ())) if rows.len() == DIRECTORY_PAGE_LEN => {
                    range = DIRECTORY.between(Bound::Excluded(last), Bound::<&()>::Unbounded);
                }
                _ => break,
            }
        }
        ranks.sort_unstable();
        Ok(ranks)
    }
}
