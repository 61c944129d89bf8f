//! Tests of whole servers, in one binary: each file tells what is seen from outside.

#[cfg(test)]
mod kit;

#[cfg(test)]
mod room_versions;

#[cfg(test)]
mod smoke;

#[cfg(test)]
mod rooms_people;

#[cfg(test)]
mod rooms_create;

#[cfg(test)]
mod rooms_send;

#[cfg(test)]
mod rooms_membership;

#[cfg(test)]
mod rooms_knocking;

#[cfg(test)]
mod rooms_history;

#[cfg(test)]
mod rooms_visibility;

#[cfg(test)]
mod rooms_aliases;

#[cfg(test)]
mod rooms_redaction;

#[cfg(test)]
mod rooms_ephemeral;

#[cfg(test)]
mod register;

#[cfg(test)]
mod login;

#[cfg(test)]
mod devices;

#[cfg(test)]
mod account_data;

#[cfg(test)]
mod profile;

#[cfg(test)]
mod http_errors;

#[cfg(test)]
mod admin_cli;

#[cfg(test)]
mod config_example;

#[cfg(test)]
mod kill;

#[cfg(test)]
mod shutdown;

#[cfg(test)]
mod listeners;

#[cfg(test)]
mod metrics;

#[cfg(test)]
mod sync;

#[cfg(test)]
mod rooms_requests;

#[cfg(test)]
mod rooms_walk;

#[cfg(test)]
mod rooms_spaces;

#[cfg(test)]
mod rooms_upgrade;

#[cfg(test)]
mod media;

#[cfg(test)]
mod federation_links;

#[cfg(test)]
mod federation_hostile;

#[cfg(test)]
mod federation_partition;

#[cfg(test)]
mod federation_large;

#[cfg(test)]
mod e2ee_keys;

#[cfg(test)]
mod e2ee_device_lists;

#[cfg(test)]
mod e2ee_to_device;

#[cfg(test)]
mod e2ee_backup;

#[cfg(test)]
mod e2ee_signing;

#[cfg(test)]
mod e2ee_federation;
