//! `tests/vectors/snapshot.json` pins the format of what is stored: a process that reads it must read what an
//! older one wrote.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::record::{IdRecord, KeyRecord, decode, encode};

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
                "session" => encode(&KeyRecord::deserialize(json!({ "Live": fields })).unwrap()),
                "end" => encode(&KeyRecord::deserialize(&fields).unwrap()),
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

/// Returns what is wrong with a vector.
fn check<R>(hex: &str, fields: &Value) -> Option<String>
where
    R: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug,
{
    let record = match R::deserialize(fields) {
        Ok(record) => record,
        Err(error) => return Some(error.to_string()),
    };
    let encoded =
        encode(&record).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    if encoded != hex {
        return Some(format!("its fields are {encoded}"));
    }
    let decoded = decode::<R>(&unhex(hex));
    if decoded.as_ref() != Ok(&record) {
        return Some(format!("read as {decoded:?}"));
    }
    let written = serde_json::to_value(&record).unwrap();
    (written != *fields).then(|| format!("all fields, and no others: {written}"))
}

#[test]
fn records_are_written_and_read_byte_for_byte() {
    if std::env::var_os("WRITE_VECTORS").is_some() {
        Vectors::write_bytes();
    }
    let vectors = Vectors::read();
    assert!(vectors.records.len() >= 10);
    // All at once: a record that changes its form changes many of them.
    let mut wrong = Vec::new();
    for Pinned { name, kind, hex, fields } in vectors.records {
        let fields = with_bytes(fields);
        let result = match kind.as_str() {
            "session" => check::<KeyRecord>(&hex, &json!({ "Live": fields })),
            "end" => check::<KeyRecord>(&hex, &fields),
            "id" => check::<IdRecord>(&hex, &fields),
            other => panic!("{other}"),
        };
        wrong.extend(result.map(|error| format!("{name}: {error}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn whatever_is_no_record_of_this_version_is_refused() {
    for Refused { name, hex, error } in Vectors::read().refused {
        let bytes = unhex(&hex);
        assert_eq!(decode::<KeyRecord>(&bytes).unwrap_err().to_string(), error, "{name}");
    }
}

#[test]
fn no_part_of_a_record_is_one() {
    for Pinned { name, kind, hex, .. } in Vectors::read().records {
        let bytes = unhex(&hex);
        for end in 0..bytes.len() {
            let read = match kind.as_str() {
                "session" | "end" => decode::<KeyRecord>(&bytes[..end]).err(),
                _ => decode::<IdRecord>(&bytes[..end]).err(),
            };
            assert!(read.is_some(), "{name}: cut at {end}");
        }
    }
}
