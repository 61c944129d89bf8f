//! Rooms: their creation, events, state, members and what is fleeting in them.

mod create;
mod ephemeral;
mod guests;
mod hierarchy;
mod history;
mod members;
mod membership;
mod moderation;
mod send;
mod state;
mod timestamp;
mod upgrade;

use axum::Router;
use rooms::{Profile, Viewer};
use ruma::UserId;
use users::Users;

use crate::{ApiState, auth::Session, error::ApiError};

/// Routes of rooms, except the directory's.
pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .merge(create::routes())
        .merge(send::routes())
        .merge(state::routes())
        .merge(history::routes())
        .merge(members::routes())
        .merge(membership::routes())
        .merge(moderation::routes())
        .merge(ephemeral::routes())
        .merge(hierarchy::routes())
        .merge(timestamp::routes())
        .merge(upgrade::routes())
}

/// The part of a user's profile that goes into member events. Empty for users of other servers.
pub(crate) async fn member_profile(users: &Users, user_id: &UserId) -> Result<Profile, ApiError> {
    let fields = users.profile(user_id).await?;
    let text = |name: &str| fields.get(name).and_then(|value| value.as_str()).map(str::to_owned);
    Ok(Profile { displayname: text("displayname"), avatar_url: text("avatar_url") })
}

/// The caller as one who looks at events.
fn viewer(session: &Session) -> Viewer<'_> {
    Viewer { user_id: &session.user_id, device_id: Some(&session.device_id) }
}
