//! Which servers the administrator lets us talk with.

use ruma::ServerName;
use wildmatch::WildMatch;

/// Patterns of server names that are allowed and denied, with `*` and `?`, case-insensitive.
///
/// A pattern stands for a name with its port, or for the host in it.
#[derive(Clone, Debug, Default)]
pub struct ServerLists {
    allow: Vec<WildMatch>,
    deny: Vec<WildMatch>,
}

impl ServerLists {
    /// Reads patterns. An empty list of allowed servers allows all.
    #[must_use]
    pub fn new(allow: &[String], deny: &[String]) -> Self {
        let patterns = |list: &[String]| {
            list.iter().map(|pattern| WildMatch::new(&pattern.to_ascii_lowercase())).collect()
        };
        Self { allow: patterns(allow), deny: patterns(deny) }
    }

    /// The rule that forbids a server, as a sentence for people; `None` where none does.
    #[must_use]
    pub fn forbids(&self, server: &ServerName) -> Option<&'static str> {
        let name = server.as_str().to_ascii_lowercase();
        let host = server.host().to_ascii_lowercase();
        let is_in = |list: &[WildMatch]| {
            list.iter().any(|pattern| pattern.matches(&name) || pattern.matches(&host))
        };
        if is_in(&self.deny) {
            Some("federation.deny names it")
        } else if !self.allow.is_empty() && !is_in(&self.allow) {
            Some("federation.allow does not name it")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    fn lists(allow: &[&str], deny: &[&str]) -> ServerLists {
        let own = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        ServerLists::new(&own(allow), &own(deny))
    }

    #[test]
    fn without_lists_everybody_is_allowed() {
        assert_eq!(ServerLists::default().forbids(server_name!("example.org")), None);
    }

    #[test]
    fn a_denied_server_is_denied_whatever_is_allowed() {
        let lists = lists(&["*"], &["*.Evil.example", "evil.example"]);
        for name in ["evil.example", "EVIL.example:8448", "a.evil.example"] {
            assert!(lists.forbids(<&ServerName>::try_from(name).unwrap()).is_some(), "{name}");
        }
        assert_eq!(lists.forbids(server_name!("notevil.example")), None);
    }

    #[test]
    fn a_list_of_allowed_servers_shuts_out_the_others() {
        let lists = lists(&["*.good.example", "hs?", "a.example:8448"], &[]);
        for name in ["x.good.example", "x.good.example:1", "hs1", "a.example:8448"] {
            assert_eq!(lists.forbids(<&ServerName>::try_from(name).unwrap()), None, "{name}");
        }
        for name in ["good.example", "hs10", "a.example", "b.example"] {
            assert!(lists.forbids(<&ServerName>::try_from(name).unwrap()).is_some(), "{name}");
        }
    }
}
