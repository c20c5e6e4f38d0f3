//! `tests/vectors/snapshot.json` pins the format of what is stored: a process that reads it must read what an
//! older one wrote.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::record::{IdRecord, SessionRecord, decode, encode};

#[derive(Deserialize)]
struct Vectors {
    records: Vec<Pinned>,
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
struct Pinned {
    name: String,
    kind: String,
    hex: String,
    fields: Value,
}

#[derive(Deserialize)]
struct Refused {
    name: String,
    hex: String,
    error: String,
}

impl Vectors {
    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/snapshot.json");

    fn read() -> Self {
        let vectors = std::fs::read(Self::PATH).expect("the vectors lie in tests/vectors");
        serde_json::from_slice(&vectors).expect("the vectors are JSON of this shape")
    }

    /// After a change of the form, whose fields stand in the file already: writes their bytes there, too.
    fn write_bytes() {
        let mut file =
            std::fs::read_to_string(Self::PATH).expect("the vectors lie in tests/vectors");
        for Pinned { kind, hex, fields, .. } in Self::read().records {
            let fields = with_bytes(fields);
            let bytes = match kind.as_str() {
                "session" => encode(&SessionRecord::deserialize(&fields).unwrap()),
                _ => encode(&IdRecord::deserialize(&fields).unwrap()),
            };
            let text = data_encoding::HEXLOWER.encode(&bytes);
            file = file.replace(&format!("\"{hex}\""), &format!("\"{text}\""));
        }
        std::fs::write(Self::PATH, file).expect("the vectors can be written");
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex}");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Bytes that the vectors show as text: keys, and the state.
fn with_bytes(mut fields: Value) -> Value {
    let bytes = |value: &mut Value, read: fn(&str) -> Vec<u8>| {
        *value = read(value.as_str().unwrap()).into();
    };
    if let Some(state) = fields.get_mut("state") {
        bytes(state, |text| text.as_bytes().to_vec());
    }
    for at in ["/key", "/Pointer", "/Ended/key"] {
        if let Some(key) = fields.pointer_mut(at) {
            bytes(key, unhex);
        }
    }
    fields
}

fn check<R>(name: &str, hex: &str, fields: &Value)
where
    R: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug,
{
    let record = R::deserialize(fields).unwrap_or_else(|error| panic!("{name}: {error}"));
    let bytes = unhex(hex);
    assert_eq!(decode::<R>(&bytes).as_ref(), Ok(&record), "{name}");
    assert_eq!(encode(&record), bytes, "{name}");
    assert_eq!(
        serde_json::to_value(&record).unwrap(),
        *fields,
        "{name}: all fields, and no others"
    );
}

#[test]
fn records_are_written_and_read_byte_for_byte() {
    if std::env::var_os("WRITE_VECTORS").is_some() {
        Vectors::write_bytes();
    }
    let vectors = Vectors::read();
    assert!(vectors.records.len() >= 10);
    for Pinned { name, kind, hex, fields } in vectors.records {
        let fields = with_bytes(fields);
        match kind.as_str() {
            "session" => check::<SessionRecord>(&name, &hex, &fields),
            "id" => check::<IdRecord>(&name, &hex, &fields),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn whatever_is_no_record_of_this_version_is_refused() {
    for Refused { name, hex, error } in Vectors::read().refused {
        let bytes = unhex(&hex);
        assert_eq!(decode::<SessionRecord>(&bytes).unwrap_err().to_string(), error, "{name}");
    }
}

#[test]
fn no_part_of_a_record_is_one() {
    for Pinned { name, kind, hex, .. } in Vectors::read().records {
        let bytes = unhex(&hex);
        for end in 0..bytes.len() {
            let read = match kind.as_str() {
                "session" => decode::<SessionRecord>(&bytes[..end]).err(),
                _ => decode::<IdRecord>(&bytes[..end]).err(),
            };
            assert!(read.is_some(), "{name}: cut at {end}");
        }
    }
}
