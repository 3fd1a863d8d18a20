//! A copy of the database, beside whoever works with it.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnectOptions;

use super::{Registry, RegistryError, create_private, sync_log};
use crate::durable;

/// How long a copy may wait for a lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

impl Registry {
    /// Copies the database in the file `from`, with every change that was made before, into the new file `to`, and syncs that. Whoever works
    /// with it goes on.
    ///
    /// # Errors
    /// The database cannot be read, or the copy not be written.
    pub async fn copy(from: &Path, to: &Path) -> Result<(), RegistryError> {
        sync_log(from).map_err(RegistryError::File)?;
        create_private(to).map_err(RegistryError::File)?;
        let options = SqliteConnectOptions::new().filename(from).create_if_missing(false).busy_timeout(BUSY_TIMEOUT);
        let mut connection = options.connect().await?;
        let name = to.to_str().ok_or(RegistryError::Damaged("the name of the copy is no text"))?;
        sqlx::query("VACUUM INTO $1").bind(name).execute(&mut connection).await?;
        connection.close().await?;
        File::open(to).and_then(|file| durable::sync_file(&file)).map_err(RegistryError::File)
    }
}
