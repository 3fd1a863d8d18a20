//! The CSV file of `device import` (RFC 4180): the first line names the columns.

use anyhow::{Context, bail};

use crate::control::{DeviceSpec, KeySource};

const DEVICE_ID: &str = "device_id";
const PUBLIC_KEY: &str = "public_key";
const NAME: &str = "name";
const PLATFORM_ID: &str = "platform_id";
const PRODUCT: &str = "product";

/// The devices in the text of a file.
pub(super) fn parse(text: &str) -> anyhow::Result<Vec<DeviceSpec>> {
    let mut records = records(text.trim_start_matches('\u{feff}'))?.into_iter();
    let columns = records.next().context("the file is empty")?.fields;
    if let Some(unknown) = columns.iter().find(|column| ![DEVICE_ID, PUBLIC_KEY, NAME, PLATFORM_ID, PRODUCT].contains(&column.as_str())) {
        bail!("there is no column {unknown:?}; the columns are {DEVICE_ID}, {PUBLIC_KEY}, {NAME}, {PLATFORM_ID} and {PRODUCT}");
    }
    for needed in [DEVICE_ID, PUBLIC_KEY] {
        if !columns.iter().any(|column| column == needed) {
            bail!("the first line must name the columns, and {needed} must be one of them");
        }
    }
    records.map(|record| device(&columns, &record).with_context(|| format!("line {}", record.line))).collect()
}

fn device(columns: &[String], record: &Record) -> anyhow::Result<DeviceSpec> {
    if record.fields.len() != columns.len() {
        bail!("{} fields instead of {}", record.fields.len(), columns.len());
    }
    let field = |name: &str| {
        let place = columns.iter().position(|column| column == name)?;
        Some(record.fields[place].trim()).filter(|field| !field.is_empty())
    };
    let key = field(PUBLIC_KEY).context("the public key is missing")?;
    Ok(DeviceSpec {
        id: field(DEVICE_ID).context("the device id is missing")?.to_owned(),
        key: KeySource::Text(key.to_owned()),
        name: field(NAME).map(str::to_owned),
        platform_id: field(PLATFORM_ID).map(str::parse).transpose().context(PLATFORM_ID)?,
        product: field(PRODUCT).map(str::parse).transpose().context(PRODUCT)?,
    })
}

/// One record, and the line it begins on.
#[derive(Debug, PartialEq)]
struct Record {
    line: usize,
    fields: Vec<String>,
}

/// Cuts a text into records. Fields in quotes may hold commas, line ends, and quotes written twice. Empty lines are passed over.
fn records(text: &str) -> anyhow::Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut record = Record { line: 1, fields: Vec::new() };
    let (mut field, mut in_quotes, mut line) = (String::new(), false, 1);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if in_quotes && rest.peek() == Some(&'"') => field.extend(rest.next()),
            '"' if in_quotes || field.is_empty() => in_quotes = !in_quotes,
            ',' if !in_quotes => record.fields.push(std::mem::take(&mut field)),
            '\r' if !in_quotes && rest.peek() == Some(&'\n') => {}
            '\n' if !in_quotes => {
                record.fields.push(std::mem::take(&mut field));
                records.push(std::mem::replace(&mut record, Record { line, fields: Vec::new() }));
            }
            other => field.push(other),
        }
    }
    if in_quotes {
        bail!("line {}: the quotes are never closed", record.line);
    }
    record.fields.push(field);
    records.push(record);
    records.retain(|record| record.fields != [""]);
    Ok(records)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn complaint(text: &str) -> String {
        format!("{:#}", parse(text).expect_err("it is wrong"))
    }

    #[test]
    fn columns_may_stand_in_any_order() {
        let text = "name,public_key,device_id,platform_id\r\nkitchen,QUJD,e00fce68aabbccddeeff0011,13\r\n\r\n,REVG , e00fce68aabbccddeeff0022,\r\n";
        let devices = parse(text).expect("a good file");
        assert_eq!(devices.len(), 2);
        assert_eq!((devices[0].name.as_deref(), devices[0].platform_id), (Some("kitchen"), Some(13)));
        assert_eq!((devices[1].name.as_deref(), devices[1].platform_id), (None, None));
        assert_eq!((devices[1].id.as_str(), &devices[1].key), ("e00fce68aabbccddeeff0022", &KeySource::Text("REVG".into())));
    }

    #[test]
    fn a_key_in_quotes_may_have_lines() {
        let text = "\u{feff}device_id,public_key,name\na,\"-----BEGIN\nQUJD\n-----END\",\"say \"\"hi\"\", twice\"";
        let devices = parse(text).expect("a good file");
        assert_eq!(devices[0].key, KeySource::Text("-----BEGIN\nQUJD\n-----END".into()));
        assert_eq!(devices[0].name.as_deref(), Some("say \"hi\", twice"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        assert!(complaint("").contains("empty"));
        assert!(complaint("device_id,key\n").contains("\"key\""));
        assert!(complaint("device_id\nx\n").contains("public_key"));
        assert!(complaint("device_id,public_key\na,\"b\nc\"\nd\n").contains("line 4"));
        assert!(complaint("device_id,public_key\n,b\n").contains("device id is missing"));
        assert!(complaint("device_id,public_key,platform_id\na,b,x\n").contains("line 2: platform_id"));
        assert!(complaint("device_id,public_key\na,\"b").contains("never closed"));
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in ".*") {
            let _ = parse(&text);
            let _ = parse(&format!("device_id,public_key\n{text}"));
        }

        #[test]
        fn fields_come_back(fields in prop::collection::vec("(?s).{0,20}", 2..5)) {
            let quoted: Vec<String> = fields.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
            let read = records(&format!("{}\n", quoted.join(","))).expect("well-formed");
            prop_assert_eq!(&read[0].fields, &fields);
        }
    }
}
