//! Push rules: a user's rules for what is worth a notification, kept as `m.push_rules` account
//! data.

use ruma::{
    UserId,
    push::{Action, InsertPushRuleError, NewPushRule, RemovePushRuleError, RuleKind, Ruleset},
};
use serde::{Deserialize, Serialize};

use crate::{
    Users,
    account_data::{CONTENT_BYTES_MAX, json_text},
    error::{Result, UsersError},
};

/// The type of account data that holds push rules.
pub(crate) const PUSH_RULES: &str = "m.push_rules";

/// Largest rule set, in bytes.
const RULES_BYTES_MAX: usize = CONTENT_BYTES_MAX;

#[derive(Serialize, Deserialize)]
struct Content {
    global: Ruleset,
}

/// What a rule is placed next to.
#[derive(Clone, Debug, Default)]
pub struct RulePlace {
    /// The rule that becomes the next more important one.
    pub after: Option<String>,
    /// The rule that becomes the next less important one.
    pub before: Option<String>,
}

impl Users {
    /// The push rules of a user.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn push_rules(&self, user_id: &UserId) -> Result<Ruleset> {
        let content = self.account_data(user_id, None, PUSH_RULES).await?;
        ruleset(user_id, content.as_ref().map(|content| content.get()))
    }

    /// Adds a rule, or replaces the one of that kind and ID.
    ///
    /// # Errors
    /// [`UsersError::Invalid`] for an impossible ID or place, [`UsersError::NotFound`] for an
    /// unknown neighbour.
    pub async fn put_push_rule(
        &self,
        user_id: &UserId,
        rule: NewPushRule,
        place: RulePlace,
    ) -> Result<()> {
        self.update_push_rules(user_id, |rules| insert(rules, rule.clone(), &place)).await
    }

    /// Removes a rule that the user added.
    ///
    /// # Errors
    /// [`UsersError::NotFound`]; [`UsersError::Invalid`] for one of the server's own rules.
    pub async fn delete_push_rule(
        &self,
        user_id: &UserId,
        kind: RuleKind,
        rule_id: &str,
    ) -> Result<()> {
        self.update_push_rules(user_id, |rules| {
            rules.remove(kind.clone(), rule_id).map_err(|error| match error {
                RemovePushRuleError::NotFound => UsersError::NotFound { what: "push rule" },
                other => UsersError::invalid(other.to_string()),
            })
        })
        .await
    }

    /// Switches a rule on or off.
    ///
    /// # Errors
    /// [`UsersError::NotFound`].
    pub async fn switch_push_rule(
        &self,
        user_id: &UserId,
        kind: RuleKind,
        rule_id: &str,
        switch: RuleSwitch,
    ) -> Result<()> {
        self.update_push_rules(user_id, |rules| {
            rules
                .set_enabled(kind.clone(), rule_id, switch == RuleSwitch::On)
                .map_err(|_| UsersError::NotFound { what: "push rule" })
        })
        .await
    }

    /// Gives a rule other actions.
    ///
    /// # Errors
    /// [`UsersError::NotFound`].
    pub async fn set_push_rule_actions(
        &self,
        user_id: &UserId,
        kind: RuleKind,
        rule_id: &str,
        actions: Vec<Action>,
    ) -> Result<()> {
        self.update_push_rules(user_id, |rules| {
            rules
                .set_actions(kind.clone(), rule_id, actions.clone())
                .map_err(|_| UsersError::NotFound { what: "push rule" })
        })
        .await
    }

    async fn update_push_rules(
        &self,
        user_id: &UserId,
        change: impl Fn(&mut Ruleset) -> Result<()>,
    ) -> Result<()> {
        self.update_account_data(user_id, None, PUSH_RULES, |old| {
            let mut global = ruleset(user_id, old)?;
            change(&mut global)?;
            let json = json_text(&Content { global })?;
            if json.len() > RULES_BYTES_MAX {
                return Err(UsersError::TooLarge { what: "the set of push rules" });
            }
            Ok((old != Some(json.as_str())).then_some(json))
        })
        .await
    }
}

/// Whether a rule is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleSwitch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// Puts a rule in its place. One that is there already keeps whether it is in force, and moves only
/// where a place is given.
fn insert(rules: &mut Ruleset, rule: NewPushRule, place: &RulePlace) -> Result<()> {
    let (kind, rule_id) = (rule.kind(), rule.rule_id().to_owned());
    let RulePlace { after, before } = place;
    let neighbours = [after.as_deref(), before.as_deref()];
    if neighbours.contains(&Some(&rule_id)) {
        return Err(UsersError::invalid("a rule is not placed next to itself"));
    }
    let old = rules.get(kind.clone(), &rule_id).map(|rule| rule.enabled());
    if old.is_some() && neighbours != [None, None] {
        // `Ruleset::insert` counts a rule that moves among its own neighbours, and panics where
        // that leads behind the end.
        rules
            .remove(kind.clone(), &rule_id)
            .map_err(|error| UsersError::invalid(error.to_string()))?;
    }
    rules.insert(rule, after.as_deref(), before.as_deref()).map_err(|error| match error {
        InsertPushRuleError::UnknownRuleId => {
            UsersError::NotFound { what: "the rule before or after" }
        }
        other => UsersError::invalid(other.to_string()),
    })?;
    if let Some(enabled) = old {
        let set = rules.set_enabled(kind, &rule_id, enabled);
        set.map_err(|_| UsersError::NotFound { what: "push rule" })?;
    }
    Ok(())
}

/// The content that a new account's push rules begin with.
pub(crate) fn default_content(user_id: &UserId) -> Result<String> {
    json_text(&Content { global: Ruleset::server_default(user_id) })
}

/// The stored rules, brought up to date with the server's own.
fn ruleset(user_id: &UserId, json: Option<&str>) -> Result<Ruleset> {
    let default = Ruleset::server_default(user_id);
    let Some(json) = json else {
        return Ok(default);
    };
    let Ok(Content { global: mut rules }) = serde_json::from_str::<Content>(json) else {
        return Ok(default);
    };
    rules.update_with_server_default(default);
    Ok(rules)
}
