//! What a box is called, and the files in it that say so.
//!
//! The agent writes these files when the box starts. The disk of an image has them already, with
//! texts of the length that a box without a name needs: the first start then overwrites them in
//! place, where it would have to make three files.

use boxlite_protocol::placeholder::FILES;

use crate::image::Reserved;
use crate::supervisor::launch::Identity;

use super::config::BoxConfig;

impl Identity {
    pub fn of(config: &BoxConfig) -> Identity {
        let hostname = hostname(config.name.as_deref().unwrap_or(&config.id));
        Identity {
            hosts: hosts(&hostname),
            hostname,
            machine_id: config.container.id.chars().take(32).collect(),
            // Without a network there is nobody to ask for names.
            resolv_conf: String::new(),
        }
    }

    /// The texts of [`FILES`].
    pub fn texts(&self) -> Vec<String> {
        vec![format!("{}\n", self.hostname), format!("{}\n", self.machine_id), self.hosts.clone()]
    }
}

/// A host name: the name as far as host names allow it.
fn hostname(name: &str) -> String {
    let name = name.replace(['_', '.'], "-").to_ascii_lowercase();
    let name = &name[..name.len().min(63)];
    name.trim_end_matches('-').to_owned()
}

fn hosts(hostname: &str) -> String {
    format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{hostname}\n"
    )
}

/// The files, as the disk of an image has them.
pub fn reserved() -> Vec<Reserved> {
    let nobody = hostname(&ulid::Ulid::nil().to_string());
    let texts = [format!("{nobody}\n"), format!("{:032}\n", 0), hosts(&nobody)];
    FILES.iter().zip(texts).map(|(path, text)| Reserved { path, text }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_what_host_names_may_be() {
        assert_eq!(hostname("My_box.v2"), "my-box-v2");
        assert_eq!(hostname(&"x".repeat(100)).len(), 63);
        assert_eq!(hostname(&format!("{}-._tail", "x".repeat(61))), "x".repeat(61));
    }

    #[test]
    fn what_is_reserved_fits_a_box_without_a_name() {
        let hostname = hostname(&ulid::Ulid::generate().to_string());
        let lengths: Vec<usize> = reserved().iter().map(|r| r.text.len()).collect();
        assert_eq!(lengths, [hostname.len() + 1, 33, hosts(&hostname).len()]);
    }
}
