//! Bodies in parts, as forms with files send them: fields like those of any form, and a few files. With or without a length announced.

use axum::body::Bytes;
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::StatusCode;

use super::error::ApiError;
use super::fields::Fields;

/// Files in one body.
const FILES_MAX: usize = 16;
/// Fields in one body.
const FIELDS_MAX: usize = 64;
/// Bytes of all fields.
const FIELDS_LEN_MAX: usize = 64 * 1024;
/// Longest name of a file that is kept.
const NAME_LEN_MAX: usize = 255;

/// A file.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// The name of its part.
    pub(super) part: String,
    /// What it is called: the last part of what was said, which may be a whole path.
    pub(super) name: String,
    pub(super) bytes: Bytes,
}

/// Reads a body whose length is limited already.
pub(super) async fn read(request: Request) -> Result<(Fields, Vec<File>), ApiError> {
    let unreadable = |_| ApiError::bad_request("The body could not be read as parts");
    let mut parts = Multipart::from_request(request, &()).await.map_err(|_| ApiError::bad_request("The body has no boundary"))?;
    let (mut fields, mut files, mut text_len, mut count) = (Fields::default(), Vec::new(), 0, 0);
    while let Some(part) = parts.next_field().await.map_err(unreadable)? {
        let name = part.name().unwrap_or_default().to_owned();
        let file_name = part.file_name().map(base_name);
        let bytes = part.bytes().await.map_err(unreadable)?;
        match file_name {
            Some(file_name) if files.len() < FILES_MAX => files.push(File { part: name, name: file_name, bytes }),
            None if count < FIELDS_MAX && text_len + bytes.len() <= FIELDS_LEN_MAX => {
                (text_len, count) = (text_len + bytes.len(), count + 1);
                fields.put(&name, String::from_utf8_lossy(&bytes).into_owned());
            }
            _ => return Err(ApiError::api(StatusCode::PAYLOAD_TOO_LARGE, "There are too many parts")),
        }
    }
    Ok((fields, files))
}

fn base_name(path: &str) -> String {
    path.rsplit(['/', '\\']).next().unwrap_or_default().chars().take(NAME_LEN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(body: String) -> Request {
        Request::builder().header("content-type", "multipart/form-data; boundary=kelp").body(Body::from(body)).unwrap()
    }

    #[tokio::test]
    async fn fields_and_files_are_told_apart() {
        let body = "--kelp\r\nContent-Disposition: form-data; name=\"version\"\r\n\r\n7\r\n\
                    --kelp\r\nContent-Disposition: form-data; name=\"file\"; filename=\"/home/me/fw.bin\"\r\n\r\nabc\r\n--kelp--\r\n";
        let (fields, files) = read(request(body.to_owned())).await.unwrap();
        assert_eq!(fields.text("version").as_deref(), Some("7"));
        assert_eq!((files.len(), files[0].part.as_str(), files[0].name.as_str(), &files[0].bytes[..]), (1, "file", "fw.bin", &b"abc"[..]));
    }

    #[tokio::test]
    async fn what_is_cut_short_or_has_too_many_parts_is_refused() {
        for body in ["", "--kelp\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx", "nonsense"] {
            assert!(read(request(body.to_owned())).await.is_err(), "{body:?}");
        }
        let many = "--kelp\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n".repeat(FIELDS_MAX + 1) + "--kelp--\r\n";
        assert!(read(request(many)).await.is_err());
    }
}
