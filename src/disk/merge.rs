//! Files of a chain that lie one on the other become one.

use std::io;
use std::path::Path;

use super::chain::{Chain, named_from};
use super::durable::{IfExists, PendingFile};
use super::qcow2::{Layer, Reader, Stream};
use super::sparse::SparseFile;
use crate::error::{Code, Error, Result};
use crate::failpoint::{self, Point};

/// Has `upper` hold what it is on too, down to `lowest`, and be on what that is on. A guest sees no
/// difference, and whoever has any of the files open goes on with what it was.
///
/// `upper` is a file of the home `root` that nobody writes to. It is written anew, beside what there is, and
/// put in its place in one step: it takes as much space once more as all of them have. What a killed writer
/// leaves is removed by [`remove_leftovers`](super::durable::remove_leftovers).
pub fn merge(root: &Path, upper: &Path, lowest: &Path) -> Result<()> {
    let chain = Chain::resolve(root, upper)?;
    let Some(last) = chain.links.iter().skip(1).position(|link| link.path == lowest) else {
        let text = format!("{} is not on {}", upper.display(), lowest.display());
        return Err(Error::new(Code::InvalidState, text));
    };
    let (merged, rest) = chain.links.split_at(last + 2);
    let backing = rest.first().map(|link| (named_from(upper, &link.path), link.format));
    let reader = Reader::open(merged.iter().map(Layer::open).collect::<Result<_>>()?)?;
    let backing = backing.as_ref().map(|(path, format)| (path.as_path(), *format));
    let stream = Stream::new(reader, backing)?;
    let merged = PendingFile::create(upper)?;
    let mut file = SparseFile::new(merged.file());
    file.write_all_of(stream).and_then(|()| file.end()).map_err(|e| failed(upper, e))?;
    failpoint::hit(Point::MergeCopied);
    merged.commit(IfExists::Replace)
}

fn failed(upper: &Path, error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(e) => Error::io(Code::Storage, format!("write {} anew", upper.display()), &e),
    }
}
