//! Push rules: what a user wants to be notified of.

use axum::{Router, extract::State};
use ruma::{
    api::client::push::{
        delete_pushrule, get_pushrule, get_pushrule_actions, get_pushrule_enabled,
        get_pushrules_all, get_pushrules_global_scope, set_pushrule, set_pushrule_actions,
        set_pushrule_enabled,
    },
    push::{AnyPushRule, RuleKind},
};
use users::{RulePlace, RuleSwitch, Users};

use crate::{
    auth::ActiveSession,
    error::ApiError,
    extract::{Ruma, route},
    state::ApiState,
};

pub(crate) fn routes() -> Router<ApiState> {
    let router = route::<get_pushrules_all::v3::Request, _, _>(Router::new(), get_all);
    let router = route::<get_pushrules_global_scope::v3::Request, _, _>(router, get_global);
    let router = route::<get_pushrule::v3::Request, _, _>(router, get_rule);
    let router = route::<set_pushrule::v3::Request, _, _>(router, set_rule);
    let router = route::<delete_pushrule::v3::Request, _, _>(router, delete_rule);
    let router = route::<get_pushrule_enabled::v3::Request, _, _>(router, is_enabled);
    let router = route::<set_pushrule_enabled::v3::Request, _, _>(router, set_enabled);
    let router = route::<get_pushrule_actions::v3::Request, _, _>(router, get_actions);
    route::<set_pushrule_actions::v3::Request, _, _>(router, set_actions)
}

/// Shows all push rules.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrules)
async fn get_all(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(_): Ruma<get_pushrules_all::v3::Request>,
) -> Result<Ruma<get_pushrules_all::v3::Response>, ApiError> {
    let rules = users.push_rules(&session.user_id).await?;
    Ok(Ruma(get_pushrules_all::v3::Response::new(rules)))
}

/// Shows all push rules of the one scope that there is.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrulesglobal)
async fn get_global(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(_): Ruma<get_pushrules_global_scope::v3::Request>,
) -> Result<Ruma<get_pushrules_global_scope::v3::Response>, ApiError> {
    let rules = users.push_rules(&session.user_id).await?;
    Ok(Ruma(get_pushrules_global_scope::v3::Response::new(rules)))
}

/// Shows a push rule.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrulesglobalkindruleid)
async fn get_rule(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<get_pushrule::v3::Request>,
) -> Result<Ruma<get_pushrule::v3::Response>, ApiError> {
    let rule = load_rule(&users, &session, request.kind, &request.rule_id).await?;
    Ok(Ruma(get_pushrule::v3::Response::new(rule.into())))
}

/// Adds a push rule, or replaces it.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3pushrulesglobalkindruleid)
async fn set_rule(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<set_pushrule::v3::Request>,
) -> Result<Ruma<set_pushrule::v3::Response>, ApiError> {
    let place = RulePlace { after: request.after, before: request.before };
    users.put_push_rule(&session.user_id, request.rule, place).await?;
    Ok(Ruma(set_pushrule::v3::Response::new()))
}

/// Removes a push rule.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3pushrulesglobalkindruleid)
async fn delete_rule(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<delete_pushrule::v3::Request>,
) -> Result<Ruma<delete_pushrule::v3::Response>, ApiError> {
    users.delete_push_rule(&session.user_id, request.kind, &request.rule_id).await?;
    Ok(Ruma(delete_pushrule::v3::Response::new()))
}

/// Says whether a push rule is in force.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrulesglobalkindruleidenabled)
async fn is_enabled(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<get_pushrule_enabled::v3::Request>,
) -> Result<Ruma<get_pushrule_enabled::v3::Response>, ApiError> {
    let rule = load_rule(&users, &session, request.kind, &request.rule_id).await?;
    Ok(Ruma(get_pushrule_enabled::v3::Response::new(rule.enabled())))
}

/// Switches a push rule on or off.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3pushrulesglobalkindruleidenabled)
async fn set_enabled(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<set_pushrule_enabled::v3::Request>,
) -> Result<Ruma<set_pushrule_enabled::v3::Response>, ApiError> {
    let switch = if request.enabled { RuleSwitch::On } else { RuleSwitch::Off };
    users.switch_push_rule(&session.user_id, request.kind, &request.rule_id, switch).await?;
    Ok(Ruma(set_pushrule_enabled::v3::Response::new()))
}

/// Shows the actions of a push rule.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3pushrulesglobalkindruleidactions)
async fn get_actions(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<get_pushrule_actions::v3::Request>,
) -> Result<Ruma<get_pushrule_actions::v3::Response>, ApiError> {
    let rule = load_rule(&users, &session, request.kind, &request.rule_id).await?;
    Ok(Ruma(get_pushrule_actions::v3::Response::new(rule.actions().to_vec())))
}

/// Gives a push rule other actions.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3pushrulesglobalkindruleidactions)
async fn set_actions(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<set_pushrule_actions::v3::Request>,
) -> Result<Ruma<set_pushrule_actions::v3::Response>, ApiError> {
    let set_pushrule_actions::v3::Request { kind, rule_id, actions, .. } = request;
    users.set_push_rule_actions(&session.user_id, kind, &rule_id, actions).await?;
    Ok(Ruma(set_pushrule_actions::v3::Response::new()))
}

async fn load_rule(
    users: &Users,
    session: &ActiveSession,
    kind: RuleKind,
    rule_id: &str,
) -> Result<AnyPushRule, ApiError> {
    let rules = users.push_rules(&session.user_id).await?;
    let rule = rules.get(kind, rule_id).map(|rule| rule.to_owned());
    rule.ok_or_else(|| ApiError::not_found("push rule not found"))
}
