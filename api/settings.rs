//! What the doors for clients must know about this server.

use ruma::{OwnedServerName, OwnedUserId};

/// Largest JSON body of a request where the configuration says nothing else, in bytes.
pub const JSON_BODY_BYTES_MAX_DEFAULT: usize = 2 * 1024 * 1024;

/// Settings of the client-server API.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// The domain of this server's users and rooms.
    pub server_name: OwnedServerName,
    /// Where clients reach the server, without a trailing slash. Served in `.well-known` when set.
    pub public_base_url: Option<String>,
    /// Where other servers reach the server, as `host:port`. Served in `.well-known/matrix/server`
    /// when set; otherwise derived from `public_base_url`.
    pub federation_address: Option<String>,
    /// Who may sign up, and how.
    pub registration: RegistrationSettings,
    /// Whom to turn to. Served in `.well-known/matrix/support` when there is anything.
    pub support: SupportSettings,
    /// Whether clients that ask too much are slowed down.
    pub rate_limits_enabled: bool,
    /// Largest JSON body of a request, in bytes.
    pub json_body_bytes_max: usize,
}

impl ApiSettings {
    /// Settings of a closed server: no sign-up, rate limits on.
    #[must_use]
    pub fn new(server_name: OwnedServerName) -> Self {
        Self {
            server_name,
            public_base_url: None,
            federation_address: None,
            registration: RegistrationSettings::default(),
            support: SupportSettings::default(),
            rate_limits_enabled: true,
            json_body_bytes_max: JSON_BODY_BYTES_MAX_DEFAULT,
        }
    }
}

/// Who may sign up, and how.
#[derive(Clone, Default)]
pub struct RegistrationSettings {
    /// Whether anybody may sign up.
    pub enabled: bool,
    /// Tokens of which one is required to sign up. None are asked for when empty.
    pub tokens: Vec<String>,
    /// Whether guests may come in.
    pub guests: bool,
    /// The secret of the shared-secret registration. Empty: that registration is switched off.
    pub shared_secret: String,
}

impl std::fmt::Debug for RegistrationSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistrationSettings")
            .field("enabled", &self.enabled)
            .field("tokens", &self.tokens.len())
            .field("guests", &self.guests)
            .finish_non_exhaustive()
    }
}

/// Whom to turn to with questions about this server.
#[derive(Clone, Debug, Default)]
pub struct SupportSettings {
    /// The administrator's e-mail address.
    pub admin_email: Option<String>,
    /// The administrator's Matrix ID.
    pub admin_matrix_id: Option<OwnedUserId>,
    /// A page with help.
    pub support_page: Option<String>,
}
