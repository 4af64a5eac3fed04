// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Patches as text, in the form that git writes and reads.

use std::fmt::Write;

/// What stands before the subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    author: String,
    date: String,
    signed_off_by: String,
}

impl Header {
    /// The header of an existing patch, for the patches that are made from files.
    pub(super) fn of(patch: &str) -> Self {
        let head = patch.split("\n---\n").next().unwrap_or_default();
        let value = |name: &str, default: &str| {
            let mut lines = head.lines().skip_while(|line| !line.starts_with(name));
            let Some(first) = lines.next() else {
                return default.to_owned();
            };
            // A long value goes on in lines that begin with a blank.
            let rest = lines
                .take_while(|line| line.starts_with(' '))
                .map(str::trim);
            let all: Vec<&str> = std::iter::once(first[name.len()..].trim())
                .chain(rest)
                .collect();
            all.join(" ")
        };
        let author = value("From: ", "hitless <hitless@example.org>");
        Self {
            date: value("Date: ", "Thu, 01 Jan 1970 00:00:00 +0000"),
            signed_off_by: value("Signed-off-by: ", &author),
            author,
        }
    }

    /// A patch with its place in the series.
    pub(super) fn patch(
        &self,
        number: usize,
        count: usize,
        subject: &str,
        body: &str,
        changes: &str,
    ) -> String {
        format!(
            "From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001\n\
             From: {}\nDate: {}\nSubject: [PATCH {number}/{count}] {subject}\n\n{body}\n\nSigned-off-by: {}\n---\n\n\
             {changes}-- \nhitless\n",
            self.author, self.date, self.signed_off_by
        )
    }
}

/// Changes that create these files.
pub(super) fn new_files(files: &[(String, String)]) -> String {
    files
        .iter()
        .map(|(path, content)| new_file(path, content))
        .collect()
}

fn new_file(path: &str, content: &str) -> String {
    let mut text = format!("diff --git a/{path} b/{path}\nnew file mode 100644\n");
    let lines: Vec<&str> = content.split_inclusive('\n').collect();
    if lines.is_empty() {
        return text;
    }
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{} @@",
        lines.len()
    );
    for line in lines {
        text.push('+');
        text.push_str(line);
        if !line.ends_with('\n') {
            text.push_str("\n\\ No newline at end of file\n");
        }
    }
    text
}

/// The patch with its place in the series in the subject.
pub(super) fn retitle(patch: &str, number: usize, count: usize) -> String {
    let Some(start) = patch.find("\nSubject: [") else {
        return patch.to_owned();
    };
    let start = start + "\nSubject: [".len();
    let Some(length) = patch[start..].find(']') else {
        return patch.to_owned();
    };
    format!(
        "{}PATCH {number}/{count}{}",
        &patch[..start],
        &patch[start + length..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_over_several_lines() {
        let header = Header::of("From 0 Mon\nFrom: A long name\n <a@b.example>\nDate: today\nSubject: x\n\nSigned-off-by: C\n---\nFrom: no\n");
        assert_eq!(header.author, "A long name <a@b.example>");
        assert_eq!(header.date, "today");
        assert_eq!(header.signed_off_by, "C");
        assert!(Header::of("").author.contains("@example.org"));
    }

    #[test]
    fn subjects_get_their_number() {
        let patch = "From: x\nSubject: [PATCH] a [b] c\n\nSubject: [no]\n";
        assert_eq!(
            retitle(patch, 3, 9),
            "From: x\nSubject: [PATCH 3/9] a [b] c\n\nSubject: [no]\n"
        );
        assert_eq!(retitle(&retitle(patch, 3, 9), 4, 9), retitle(patch, 4, 9));
    }
}
