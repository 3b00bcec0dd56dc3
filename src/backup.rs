//! What a machine needs to publish the same addresses again: its configuration and
//! its keys, in one encrypted file.
//!
//! `commands/backup` and `commands/restore` use this. Introduction points, replay logs
//! and what the balancer remembers are left out: an old replay log lets introductions
//! through a second time. So are caches, locks and sockets.
//!
//! | file | question |
//! |---|---|
//! | `contents` | what is in a backup, and may it be there? Values alone |
//! | `archive` | how is it written as a tar, and read from one that may be hostile? |
//! | `seal` | how is that encrypted? |
//! | `collect` | which files of this machine belong into it? |
//! | `destination` | may a file come back to its place, and whose is it there? |
//! | `place` | how do files get there without replacing one, and all or none? |

pub(crate) mod archive;
pub(crate) mod collect;
pub(crate) mod contents;
pub(crate) mod destination;
pub(crate) mod place;
pub(crate) mod seal;
