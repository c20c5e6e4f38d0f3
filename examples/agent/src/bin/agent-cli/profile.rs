//! Who the user is, from one start of the program to the next.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use example_support::place;
use serde::{Deserialize, Serialize};

/// The cookies are the identity: a program that can read the file gets into the session.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// As [`Client::cookies`](session_resume_client::Client::cookies) returns them.
    pub(crate) cookies: String,
    /// The session that was open last.
    pub(crate) session: Option<String>,
}

impl Profile {
    /// Reads a profile; one that is not there yet is empty.
    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(format!("{}: {error}", path.display())),
        };
        serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))
    }

    pub(crate) fn remember(&mut self, session: &impl ToString, cookies: String) {
        self.session = Some(session.to_string());
        self.cookies = cookies;
    }

    /// Writes the profile, whole or not at all, for its owner's eyes only.
    pub(crate) fn save(&self, path: &Path) -> Result<(), String> {
        let write = || -> io::Result<()> {
            place::make_folder_of(path)?;
            let mut beside = PathBuf::from(path);
            beside.as_mut_os_string().push(".new");
            // One that was left behind may have other permissions.
            let _ = fs::remove_file(&beside);
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            options.open(&beside)?.write_all(serde_json::to_string(self)?.as_bytes())?;
            fs::rename(&beside, path)
        };
        write().map_err(|error| format!("{}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/cli.json");
        assert!(Profile::load(&path).unwrap() == Profile::default());
        let mut profile = Profile::default();
        for n in 0..2 {
            profile.remember(&n, format!("sr_id={n}"));
            profile.save(&path).unwrap();
            assert!(Profile::load(&path).unwrap() == profile);
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        fs::write(&path, "{").unwrap();
        assert!(Profile::load(&path).err().unwrap().contains("cli.json"));
    }
}
