//! Where do the relative paths of a torrc begin?

use std::path::{Path, PathBuf};

use super::lines::Line;
use crate::import::{
    Fault, ImportFiles, LineFate, Note, SourcePlace, directory_of, resolve, written_path,
};

/// Where relative paths begin.
pub(super) struct Base {
    /// `DataDirectory`, if the file names it.
    data: Option<PathBuf>,
    /// The directory of the torrc.
    beside: PathBuf,
}

impl Base {
    /// That of a torrc with these settings.
    pub(super) fn of(settings: &[Line], file: &Path, files: &impl ImportFiles) -> Self {
        let beside = directory_of(file).to_owned();
        let line = settings.iter().rfind(|line| line.key == "datadirectory");
        let data = line.map(|line| resolve(&line.value, &beside, files));
        Self { data, beside }
    }

    /// The directory that a path means.
    pub(super) fn find(
        &self,
        path: &str,
        place: &SourcePlace,
        files: &impl ImportFiles,
        notes: &mut Vec<Note>,
    ) -> PathBuf {
        let is_there = |path: &Path| matches!(files.list(path), Ok(Some(_)) | Err(_));
        let found = self.first(|base| resolve(path, base, files), is_there);
        // Without what says nothing, such as a slash at the end.
        let found: PathBuf = found.components().collect();
        if Path::new(path).is_relative() && !path.starts_with("~/") {
            let written = format!("HiddenServiceDir {path}");
            notes.push(relative(&written, place, &found));
        }
        found
    }

    /// The whole path of a socket or program, whose `~` tor takes as it is; what is said
    /// if it was `written` as a relative one.
    pub(super) fn whole(
        &self,
        path: &str,
        written: &str,
        place: &SourcePlace,
        files: &impl ImportFiles,
    ) -> Result<(String, Option<Note>), Fault> {
        if Path::new(path).is_absolute() {
            return Ok((path.to_owned(), None));
        }
        // One that cannot be looked at is there, too.
        let is_there = |path: &Path| !matches!(files.is_there(path), Ok(false));
        let found = self.first(|base| base.join(path), is_there);
        let note = relative(written, place, &found);
        Ok((written_path(&found, place, files)?, Some(note)))
    }

    /// tor begins relative paths where it was started, or as a daemon in its
    /// DataDirectory: what is there decides.
    fn first(&self, below: impl Fn(&Path) -> PathBuf, is_there: impl Fn(&Path) -> bool) -> PathBuf {
        let mut places: Vec<PathBuf> =
            self.data.iter().chain([&self.beside]).map(|base| below(base)).collect();
        let found = places.iter().position(|path| is_there(path)).unwrap_or(0);
        places.swap_remove(found)
    }
}

fn relative(written: &str, place: &SourcePlace, found: &Path) -> Note {
    let text = format!(
        "{written} is a relative path: {} is used here. tor begins at its working directory, which \
         this file does not tell",
        found.display()
    );
    Note::new(place, LineFate::Decided, text)
}
