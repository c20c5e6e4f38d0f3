//! Where files go that must outlive the programs.

use std::{
    env, io,
    path::{Path, PathBuf},
};

/// Returns the path of a file in the folder for the state of a program: `$XDG_STATE_HOME`,
/// `~/.local/state`, or the folder for temporary files, then `session-resume-<program>`.
///
/// The folder for temporary files is the last choice, because every user can write to it: a program that reads
/// the file of another user acts for that user.
pub fn default_file(program: &str, name: &str) -> PathBuf {
    let given =
        |variable| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    given("XDG_STATE_HOME")
        .or_else(|| given("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(env::temp_dir)
        .join(format!("session-resume-{program}"))
        .join(name)
}

/// Makes the folder of a file, if it is missing; no other user may look into a new one.
///
/// # Errors
///
/// Fails as the file system does.
pub fn make_folder_of(file: &Path) -> io::Result<()> {
    let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
