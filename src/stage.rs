//! The stages of a box's start, in the order in which they come.
//!
//! The library does the first ones, the supervisor the others; each is timed from the end of the one
//! before. A stage gets what it needs as values from those before it: the box's row and its lock, a launch
//! specification, a connection, a running machine, a session with its agent. When one fails the machine is
//! ended, the box is *failed* with the whole error, and its files stay.

macro_rules! stages {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A step from a box that does not run to one that does. Not every start has all of them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Stage { $($(#[$doc])* $name,)* }

        impl Stage {
            pub const ALL: &[Stage] = &[$(Stage::$name),*];

            /// The name by which users know it.
            pub fn name(self) -> &'static str {
                match self { $(Stage::$name => $text,)* }
            }
        }
    };
}

stages! {
    /// The box is taken for the start, the host found to have what it needs, its directories are there, and
    /// that it is starting is written down.
    Admission = "admission",
    /// What the supervisor is to do is put together, from what is stored of the box and where it is installed.
    Configuration = "configuration",
    /// The supervisor's process. Not with a machine that waits: its supervisor is there.
    Spawn = "spawn",
    /// It has the box's lock and socket.
    Supervisor = "supervisor",
    /// A machine template was made, which is done once.
    Template = "template",
    /// A template with the image's disk was made, which is done once for each image.
    DiskTemplate = "disk template",
    /// The virtual machine's process, where it has to boot.
    Machine = "machine",
    /// Its agent has greeted.
    Boot = "boot",
    /// In place of these two: a template was loaded.
    Restore = "restore",
    /// Or a machine that waits was given the box's disk.
    HandOver = "hand-over",
    /// Identity, clock, random numbers and disk: the machine is the box.
    Setup = "setup",
    /// The main process runs.
    Main = "main",
}

impl Stage {
    /// The stage of this name. A supervisor of another version may have others.
    pub fn of_name(name: &str) -> Option<Stage> {
        Stage::ALL.iter().copied().find(|stage| stage.name() == name)
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
