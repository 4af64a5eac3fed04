// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The test that compares this crate's structures and numbers with the kernel's headers.
//!
//! It writes a C file full of static assertions and lets gcc judge. `HITLESS_LINUX_HEADERS` names a kernel tree with
//! hitless in it, whose `include/uapi` is used; `cargo lab test uapi::headers` runs it so.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use rustix::ioctl::Opcode;

/// A structure as this crate has it.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) structure: &'static str,
    pub(crate) ioctl: &'static str,
    pub(crate) number: Opcode,
    pub(crate) size: usize,
    pub(crate) fields: Vec<(&'static str, usize)>,
}

/// Takes a Rust structure, its C name, its ioctl's C name and its fields.
macro_rules! layout {
    ($structure:ty, $name:literal, $ioctl:literal, [$($field:ident),*]) => {
        $crate::layouts::Layout {
            structure: $name,
            ioctl: $ioctl,
            number: <$structure as $crate::ioctl::Argument>::NUMBER,
            size: std::mem::size_of::<$structure>(),
            fields: vec![$((stringify!($field), std::mem::offset_of!($structure, $field))),*],
        }
    };
}
pub(crate) use layout;

fn all() -> Vec<Layout> {
    let mut all = crate::liveupdate::layouts::all();
    all.extend(crate::iommufd::layouts::all());
    all.extend(crate::vfio::layouts::all());
    all
}

fn assertions(layouts: &[Layout]) -> String {
    let mut text = String::from(
        "#include <stddef.h>\n#include <sys/ioctl.h>\n#include <linux/types.h>\n#include \"linux/liveupdate.h\"\n\
         #include \"linux/iommufd.h\"\n#include \"linux/vfio.h\"\n",
    );
    let mut say = |line: String| writeln!(text, "{line}").expect("a string takes all");
    for Layout {
        structure,
        ioctl,
        number,
        size,
        fields,
    } in layouts
    {
        say(format!(
            "_Static_assert({ioctl} == {number}UL, \"number of {ioctl}\");"
        ));
        say(format!(
            "_Static_assert(sizeof(struct {structure}) == {size}, \"size of {structure}\");"
        ));
        for (field, offset) in fields {
            say(format!(
                "_Static_assert(offsetof(struct {structure}, {field}) == {offset}, \"{structure}.{field}\");"
            ));
        }
    }
    text
}

/// What gcc says; empty when it has no complaint.
fn judge(tree: &Path, text: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("layouts.c");
    std::fs::write(&source, text).expect("the source");
    // The raw headers want `__user` gone, and compiler_types.h's place taken by an empty file.
    std::fs::create_dir(folder.path().join("linux")).expect("a folder");
    for name in ["compiler.h", "compiler_types.h"] {
        std::fs::write(folder.path().join("linux").join(name), "").expect("an empty header");
    }
    let output = Command::new("gcc")
        .args(["-fsyntax-only", "-D__user=", "-I"])
        .arg(folder.path())
        .arg("-I")
        .arg(tree.join("include/uapi"))
        .arg(&source)
        .output()
        .expect("gcc runs");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || !complaint.is_empty());
    if output.status.success() {
        String::new()
    } else {
        complaint
    }
}

#[test]
#[ignore = "needs HITLESS_LINUX_HEADERS; cargo lab test uapi::headers"]
fn structures_and_numbers_are_those_of_the_kernels_headers() {
    let tree = std::env::var_os("HITLESS_LINUX_HEADERS").expect("HITLESS_LINUX_HEADERS");
    let tree = Path::new(&tree);
    assert_eq!(judge(tree, &assertions(&all())), "");

    // The twin: one byte off is seen.
    let mut wrong = all();
    wrong[0].size += 1;
    assert!(judge(tree, &assertions(&wrong)).contains(wrong[0].structure));
}

#[test]
fn no_number_is_used_twice_for_one_type_of_file() {
    let mut numbers: Vec<Opcode> = all().iter().map(|layout| layout.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), all().len());
}
