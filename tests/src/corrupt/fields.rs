// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The fields of all records, as the document says that is made from their source.

use std::fmt;

const DOCUMENT: &str = include_str!("../../../docs/abi.md");
/// The families, by their magic numbers.
const FAMILIES: [&str; 4] = ["hitl-pci", "hitl-iom", "hitl-ifd", "hitl-vfp"];
/// Structures that are a part of an entry: its family, its kind, and where they begin in it.
const PAYLOADS: [(&str, (&str, u8, usize)); 2] = [
    ("VtdUnitSer", ("hitl-iom", 1, 16)),
    ("VtdAttachmentSer", ("hitl-iom", 3, 24)),
];
/// Structures that are no entries of their own, or do not cross the jump.
const OTHERS: [&str; 3] = ["EntrySer", "PageSer", "ImageSer"];

/// A field of a record.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) structure: &'static str,
    name: &'static str,
    /// Of which family, by its magic number.
    pub(super) family: &'static str,
    /// Of which kind of entry; `None`: of the page.
    pub(super) kind: Option<u8>,
    /// Where it begins in the entry, or in the page.
    pub(super) offset: usize,
    /// What is changed of its first bytes: a whole page of an address, the lowest bit of anything else.
    pub(super) flip: u16,
    /// The checksum is changed by itself.
    pub(super) is_checksum: bool,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.structure, self.name)
    }
}

/// All fields, in the document's order.
pub(super) fn fields() -> Vec<Field> {
    let mut all = Vec::new();
    let (mut family, mut structure) = ("", "");
    let mut kinds: Vec<(&str, u8)> = Vec::new();
    for line in DOCUMENT.lines() {
        if let Some(magic) = line.strip_prefix("Magic number `") {
            family = magic.split('`').next().unwrap_or_default();
            kinds.clear();
        } else if let Some(name) = line.strip_prefix("### `") {
            structure = name.split('`').next().unwrap_or_default();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        match cells[..] {
            ["", value, _, ""] if value.starts_with("`KIND_") => {
                let name = value.split('`').nth(1).unwrap_or_default();
                let number = value.rsplit(' ').next().and_then(|text| text.parse().ok());
                kinds.extend(number.map(|number| (name, number)));
            }
            ["", offset, _, name, _, meaning, ""] if !OTHERS.contains(&structure) => {
                let Ok(offset) = offset.parse::<usize>() else {
                    continue;
                };
                let field = Field {
                    structure,
                    name: name.trim_matches('`'),
                    family,
                    kind: None,
                    offset,
                    flip: if meaning.starts_with("Physical address") {
                        0x1000
                    } else {
                        1
                    },
                    is_checksum: name == "`checksum`",
                };
                all.extend(places(field, &kinds));
            }
            _ => {}
        }
    }
    all
}

/// A field in each family or kind of entry that has it.
fn places(field: Field, kinds: &[(&str, u8)]) -> Vec<Field> {
    let payload = PAYLOADS.iter().find(|(name, _)| *name == field.structure);
    if let Some((_, (family, kind, base))) = payload {
        return vec![Field {
            family,
            kind: Some(*kind),
            offset: field.offset + base,
            ..field
        }];
    }
    match field.structure {
        "HeaderSer" => FAMILIES
            .map(|family| Field {
                family,
                ..field.clone()
            })
            .to_vec(),
        // Devices and bridges are entries of one form.
        "FunctionSer" => kinds
            .iter()
            .map(|(_, kind)| Field {
                kind: Some(*kind),
                ..field.clone()
            })
            .collect(),
        structure => {
            let name = structure.trim_end_matches("Ser").to_uppercase();
            let kind = kinds.iter().find(|(kind, _)| {
                let kind = kind.trim_start_matches("KIND_");
                name.ends_with(kind)
            });
            let kind = kind.map(|(_, kind)| *kind);
            kind.map(|kind| Field {
                kind: Some(kind),
                ..field
            })
            .into_iter()
            .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_structure_of_the_document_is_found() {
        let all = fields();
        for (structure, at_least) in [
            ("HeaderSer", 40),
            ("FunctionSer", 24),
            ("UnitSer", 6),
            ("DomainSer", 9),
            ("AttachmentSer", 8),
            ("VtdUnitSer", 6),
            ("VtdAttachmentSer", 6),
            ("HwptSer", 7),
            ("MemorySer", 5),
            ("MappingSer", 8),
            ("DeviceFileSer", 6),
        ] {
            let count = all
                .iter()
                .filter(|field| field.structure == structure)
                .count();
            assert!(count >= at_least, "{structure}: {count}");
        }
        let context = all
            .iter()
            .find(|field| field.to_string() == "VtdAttachmentSer.context_table");
        let context = context.expect("in the document");
        assert_eq!(
            (context.kind, context.offset, context.flip),
            (Some(3), 24, 0x1000)
        );
        let payloads = all.iter().filter(|field| field.name == "payload");
        assert_eq!(payloads.count(), 2);
    }
}
