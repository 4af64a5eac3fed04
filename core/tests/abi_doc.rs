// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! `docs/abi.md` is what the sources of `core/src/abi` say. To write it anew:
//!
//! ```text
//! cargo test -p hitless_core --test abi_doc -- --ignored
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use hitless_core::abi;

const MODULES: [&str; 9] = [
    "header", "list", "pci", "iommu", "vtd", "iommufd", "vfio", "log", "image",
];

const INTRODUCTION: &str = "\
# The handover format

The records that cross the jump, and at the end of this page the one by which a kernel's image says what it can take over. Each
that crosses is a chain of pages of 4,096 bytes, written when a file is preserved and read by the next
kernel; numbers are little-endian, reserved bytes and free entries are zero. These tables are made from `core/src/abi/` by
`core/tests/abi_doc.rs`; golden bytes of each released version are in `core/testdata/abi/`, and every later version must decode or
refuse them.

Each page begins with a header and holds 63 entries of 64 bytes. A reader refuses a magic number or version it does not know, a
page whose checksum is wrong, a page of another chain, and any bit of `required` that it does not know in that family; bits of
`optional` it may pass over. Version 1 uses no feature bit. There is no capacity: a chain grows by a page when all entries are in
use, and an entry that is removed is used again.
";

struct Field {
    name: String,
    kind: String,
    doc: String,
}

struct Structure {
    name: String,
    doc: String,
    fields: Vec<Field>,
}

/// What a source file of `core/src/abi` says.
#[derive(Default)]
struct Module {
    doc: Vec<String>,
    /// Name, value and doc.
    constants: Vec<(String, String, String)>,
    structures: Vec<Structure>,
}

impl Module {
    fn parse(text: &str) -> Self {
        let mut module = Self::default();
        let mut doc = String::new();
        let mut open = false;
        for line in text.lines().map(str::trim) {
            if let Some(line) = line.strip_prefix("//!") {
                module.doc.push(line.trim().to_owned());
            } else if let Some(line) = line.strip_prefix("///") {
                doc = format!("{doc} {}", line.trim()).trim().to_owned();
            } else if let Some(constant) = line.strip_prefix("pub const ") {
                let (name, rest) = constant.split_once(':').expect("a type");
                let (_, value) = rest.split_once(" = ").expect("a value");
                let value = value.trim_end_matches(';').to_owned();
                let doc = std::mem::take(&mut doc);
                module.constants.push((name.to_owned(), value, doc));
            } else if line.starts_with("pub type ") {
                doc.clear();
            } else if let Some(name) = line.strip_prefix("pub struct ") {
                module.structures.push(Structure {
                    name: name.trim_end_matches(" {").to_owned(),
                    doc: std::mem::take(&mut doc),
                    fields: Vec::new(),
                });
                open = true;
            } else if let (true, Some(field)) = (open, line.strip_prefix("pub ")) {
                let (name, kind) = field.split_once(": ").expect("a type");
                let structure = module.structures.last_mut().expect("a structure");
                structure.fields.push(Field {
                    name: name.to_owned(),
                    kind: kind.trim_end_matches(',').to_owned(),
                    doc: std::mem::take(&mut doc),
                });
            } else if line == "}" {
                open = false;
            }
        }
        module
    }

    fn constant(&self, name: &str) -> Option<&str> {
        let mut constants = self.constants.iter();
        let (_, value, _) = constants.find(|(other, _, _)| other == name)?;
        Some(value)
    }

    /// An array's element and length; anything else is one of its kind.
    fn array<'a>(&self, kind: &'a str) -> (&'a str, usize) {
        let Some((element, length)) = kind
            .strip_prefix('[')
            .and_then(|kind| kind.strip_suffix(']')?.split_once("; "))
        else {
            return (kind, 1);
        };
        let length = self.constant(length).unwrap_or(length);
        (element, length.parse().expect("a number"))
    }
}

type Sizes = BTreeMap<String, usize>;

fn size(module: &Module, kind: &str, sizes: &Sizes) -> usize {
    let (element, length) = module.array(kind);
    let element = match element {
        "u8" => 1,
        "U16" => 2,
        "U32" => 4,
        "U64" => 8,
        other => sizes[other],
    };
    element * length
}

fn kind_text(module: &Module, kind: &str) -> String {
    let (element, length) = module.array(kind);
    let element = match element {
        "U16" | "U32" | "U64" => element.to_lowercase(),
        _ => element.to_owned(),
    };
    match kind.starts_with('[') {
        true => format!("`{length} x {element}`"),
        false => format!("`{element}`"),
    }
}

fn paragraphs(lines: &[String]) -> String {
    let paragraphs = lines.split(String::is_empty);
    let paragraphs: Vec<_> = paragraphs.map(|lines| lines.join(" ")).collect();
    let (title, rest) = paragraphs.split_first().expect("a title");
    format!("{title} {}", rest.join(" ")).trim().to_owned()
}

/// `` `Type::field`: meaning ``: a value that a field has.
fn values(module: &Module) -> Vec<(&str, &str, &str)> {
    let constants = module.constants.iter();
    constants
        .filter_map(|(name, value, doc)| {
            let (field, meaning) = doc.strip_prefix('`')?.split_once("`: ")?;
            field.contains("::").then_some((name, value, meaning))
        })
        .map(|(name, value, meaning)| (name.as_str(), value.as_str(), meaning))
        .collect()
}

fn identity(module: &Module) -> Option<String> {
    let magic = module.constant("MAGIC")?;
    let magic = magic.trim_start_matches("*b\"").trim_end_matches('"');
    let version = match module.constant("VERSION") {
        Some(version) => format!("version {version}"),
        None => "no version of its own".to_owned(),
    };
    Some(format!("Magic number `{magic}`, {version}."))
}

fn render() -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut sizes = Sizes::new();
    for name in MODULES {
        let path = format!("{}/src/abi/{name}.rs", env!("CARGO_MANIFEST_DIR"));
        let module = Module::parse(&fs::read_to_string(path).expect("a source file"));
        write!(text, "\n## `abi::{name}`\n\n{}\n", paragraphs(&module.doc)).expect("a string");
        if let Some(identity) = identity(&module) {
            write!(text, "\n{identity}\n").expect("a string");
        }
        let values = values(&module);
        if !values.is_empty() {
            text.push_str("\n| value | meaning |\n|---|---|\n");
        }
        for (name, value, meaning) in values {
            writeln!(text, "| `{name}` = {value} | {meaning} |").expect("a string");
        }
        for structure in &module.structures {
            table(&mut text, &module, structure, &mut sizes);
        }
    }
    for (record, size) in &sizes {
        assert_eq!(*size, real_size(record), "{record}");
    }
    text
}

fn table(text: &mut String, module: &Module, structure: &Structure, sizes: &mut Sizes) {
    let doc = structure.doc.trim_end_matches('.');
    write!(
        text,
        "\n### `{}`: {doc}\n\n| offset | bytes | field | type | meaning |\n|---|---|---|---|---|\n",
        structure.name
    )
    .expect("a string");
    let mut offset = 0;
    for Field { name, kind, doc } in &structure.fields {
        let size = size(module, kind, sizes);
        let kind = kind_text(module, kind);
        writeln!(text, "| {offset} | {size} | `{name}` | {kind} | {doc} |").expect("a string");
        offset += size;
    }
    write!(text, "\n{offset} bytes.\n").expect("a string");
    sizes.insert(structure.name.clone(), offset);
}

/// The compiler's opinion.
fn real_size(record: &str) -> usize {
    match record {
        "HeaderSer" => size_of::<abi::header::HeaderSer>(),
        "EntrySer" => size_of::<abi::list::EntrySer>(),
        "PageSer" => size_of::<abi::list::PageSer>(),
        "FunctionSer" => size_of::<abi::pci::FunctionSer>(),
        "UnitSer" => size_of::<abi::iommu::UnitSer>(),
        "DomainSer" => size_of::<abi::iommu::DomainSer>(),
        "AttachmentSer" => size_of::<abi::iommu::AttachmentSer>(),
        "VtdUnitSer" => size_of::<abi::vtd::VtdUnitSer>(),
        "VtdAttachmentSer" => size_of::<abi::vtd::VtdAttachmentSer>(),
        "HwptSer" => size_of::<abi::iommufd::HwptSer>(),
        "MemorySer" => size_of::<abi::iommufd::MemorySer>(),
        "MappingSer" => size_of::<abi::iommufd::MappingSer>(),
        "ImageSer" => size_of::<abi::image::ImageSer>(),
        "DeviceFileSer" => size_of::<abi::vfio::DeviceFileSer>(),
        "EventSer" => size_of::<abi::log::EventSer>(),
        other => panic!("{other} is new: add it here"),
    }
}

fn document() -> String {
    format!("{}/../docs/abi.md", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_document_is_what_the_sources_say() {
    let written = fs::read_to_string(document()).expect("docs/abi.md");
    assert!(
        written == render(),
        "docs/abi.md is stale: cargo test -p hitless_core --test abi_doc -- --ignored"
    );
}

#[test]
#[ignore = "writes docs/abi.md"]
fn write_the_document() {
    fs::write(document(), render()).expect("docs/abi.md is written");
}
