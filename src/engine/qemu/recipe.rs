//! What a machine template is made from, and the name that it has for it: another machine, another
//! name.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Changes when templates of an older library cannot be used any more.
const FORMAT: u32 = 2;

/// Everything that shapes a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    pub format: u32,
    pub host_boot: String,
    pub qemu: String,
    pub kernel: String,
    pub initramfs: String,
    /// The command line that the machine is made with: accelerator, processors, memory, devices,
    /// the kernel's arguments.
    pub arguments: Vec<String>,
    /// The disk that it has mounted, and its size; none where that comes later.
    pub disk: Option<String>,
}

impl Recipe {
    pub fn new(
        host_boot: String,
        [qemu, kernel, initramfs]: [String; 3],
        arguments: Vec<String>,
    ) -> Recipe {
        Recipe { format: FORMAT, host_boot, qemu, kernel, initramfs, arguments, disk: None }
    }

    /// The name of this recipe's template.
    pub fn key(&self) -> String {
        let mut hash = Sha256::new();
        let parts = [&self.host_boot, &self.qemu, &self.kernel, &self.initramfs];
        hash.update(self.format.to_le_bytes());
        for part in parts.into_iter().chain(&self.disk).chain(&self.arguments) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hex(&hash.finalize()[..16])
    }
}

/// A checksum as text.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
