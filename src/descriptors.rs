//! The file descriptors of this process, which the store and connections share.

/// Descriptors that are left to the store, whose files must never fail to open.
const STORE: u64 = 384;

/// Descriptors that are left to everything else: listeners, logs, the admin socket, other servers.
const REST: u64 = 128;

/// Most connections that may be open at once. The process is allowed as many descriptors as the
/// operating system grants it first; where those are too few for what is wanted, a warning says so.
pub(crate) fn connections_max(wanted: usize) -> usize {
    let limit = match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => limit,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files could not be raised");
            match rlimit::getrlimit(rlimit::Resource::NOFILE) {
                Ok((soft, _)) => soft,
                Err(_) => return wanted,
            }
        }
    };
    let possible = clamp(wanted, limit);
    if possible < wanted {
        tracing::warn!(
            wanted,
            possible,
            limit,
            "limits.connections_max is cut: the hard limit of open files (ulimit -Hn, LimitNOFILE) is too low"
        );
    }
    possible
}

/// As many connections of those wanted as a limit of descriptors leaves room for, but one at least.
fn clamp(wanted: usize, limit: u64) -> usize {
    let room = limit.saturating_sub(STORE + REST).max(1);
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_keeps_its_descriptors() {
        for (wanted, limit, possible) in
            [(10_000, 1_024, 512), (100, 1_024, 100), (10_000, 100, 1), (10_000, u64::MAX, 10_000)]
        {
            assert_eq!(clamp(wanted, limit), possible, "{wanted} of {limit}");
        }
    }

    #[test]
    fn the_limit_is_raised_to_the_hard_one() {
        assert_eq!(connections_max(1), 1);
        let (soft, hard) = rlimit::getrlimit(rlimit::Resource::NOFILE).unwrap();
        assert_eq!(soft, hard);
    }
}
