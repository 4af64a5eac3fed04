// SPDX-License-Identifier: Apache-2.0 OR MIT
//! As much of C, and of patches, as counting needs. Files in kernel style are read, which checkpatch.pl sees to.

/// The text without its comments. Lines stay where they are.
pub(super) fn strip(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut quote = None;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let ends = match quote {
            None if rest.starts_with("/*") => Some("*/"),
            None if rest.starts_with("//") => Some("\n"),
            _ => None,
        };
        if let Some(end) = ends {
            let length = rest[2..].find(end).map(|at| 2 + at + end.len());
            let (comment, after) = rest.split_at(length.unwrap_or(rest.len()));
            kept.extend([" "].into_iter().chain(comment.matches('\n')));
            rest = after;
            continue;
        }
        // A sign that is escaped ends nothing.
        let count = if first == '\\' { 2 } else { 1 };
        let length = rest.chars().take(count).map(char::len_utf8).sum();
        let (piece, after) = rest.split_at(length);
        kept.push_str(piece);
        quote = match first {
            '"' | '\'' if quote.is_none() => Some(first),
            '\n' => None,
            _ => quote.filter(|quote| *quote != first),
        };
        rest = after;
    }
    kept
}

/// Does a line of stripped text hold code? A piece of a file may begin inside a comment, whose lines begin with a star.
pub(super) fn is_code(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && line != "*" && !line.starts_with("* ") && !line.starts_with("*/")
}

/// The name of the function that a line begins to declare or define: in kernel style it stands in the first column, or behind
/// its type there.
pub(super) fn declared(line: &str) -> Option<&str> {
    let (before, _) = line.split_once('(')?;
    let name = before.rsplit([' ', '*', '\t']).next()?;
    let is_name = |text: &str| text.starts_with(|sign: char| sign.is_alphabetic() || sign == '_');
    (is_name(line) && is_name(name) && !before.contains('=')).then_some(name)
}

/// The name of the function that a line begins to define.
pub(super) fn head(line: &str) -> Option<&str> {
    declared(line).filter(|_| !line.trim_end().ends_with([';', ':']))
}

/// The functions with a body of a file, with the lines of code between their braces, which stand alone in the first column.
pub(super) fn functions(text: &str) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut body = None;
    let mut name = String::new();
    for line in strip(text).lines().map(str::trim_end) {
        match (line, &mut body) {
            ("{", _) => body = Some(0),
            ("}", Some(lines)) => {
                found.push((name.clone(), *lines));
                body = None;
            }
            (_, Some(lines)) => *lines += usize::from(is_code(line)),
            (_, None) => head(line)
                .into_iter()
                .for_each(|head| head.clone_into(&mut name)),
        }
    }
    found
}

/// What a patch does at one place of a file.
pub(super) struct Hunk<'a> {
    pub(super) path: &'a str,
    /// The file exists before the patch.
    existed: bool,
    /// What follows the two signs that begin it.
    text: &'a str,
}

/// The hunks of a patch in git's format. A line of one has a sign before it, so none looks like the heads looked for here.
pub(super) fn hunks(patch: &str) -> impl Iterator<Item = Hunk<'_>> {
    let (patch, _) = patch.rsplit_once("\n-- \n").unwrap_or((patch, ""));
    patch.split("\ndiff --git ").flat_map(|file| {
        let (head, _) = file.split_once("\n@@ ").unwrap_or((file, ""));
        let path = |sign| head.lines().find_map(|line| line.strip_prefix(sign));
        let (old, new) = (path("--- a/"), path("+++ b/"));
        file.split("\n@@ ").skip(1).map(move |text| Hunk {
            path: new.or(old).unwrap_or_default().trim_end(),
            existed: old.is_some(),
            text,
        })
    })
}

impl Hunk<'_> {
    pub(super) fn is_c(&self) -> bool {
        self.path.ends_with(".c") || self.path.ends_with(".h")
    }

    /// The line that names the function in which the hunk begins, or a label.
    pub(super) fn head(&self) -> &str {
        let line = self.text.lines().next().unwrap_or_default();
        line.split_once("@@ ").map_or("", |(_, head)| head)
    }

    /// What is there before (`-`) or after (`+`) the change: each line without its comments, and whether it is changed.
    pub(super) fn side(&self, side: char) -> Vec<(bool, String)> {
        let lines = self.text.lines().skip(1);
        // Some editors remove the blank that stands before an empty line.
        let lines = lines.map(|line| line.split_at_checked(1).unwrap_or((" ", "")));
        let lines = lines.filter(|(sign, _)| *sign == " " || sign.starts_with(side));
        let (signs, lines): (Vec<&str>, Vec<&str>) = lines.unzip();
        let stripped = strip(&lines.join("\n"));
        let changed = signs.iter().map(|sign| *sign != " ");
        changed.zip(stripped.lines().map(str::to_owned)).collect()
    }
}

/// Lines of code: those that hold more than blanks and comments.
pub(super) fn lines(text: &str) -> usize {
    strip(text).lines().filter(|line| is_code(line)).count()
}

/// Added and removed lines of code in `.c` and `.h` files that exist before the patch.
pub(super) fn changed_lines(patch: &str) -> usize {
    hunks(patch)
        .filter(|hunk| hunk.existed && hunk.is_c())
        .flat_map(|hunk| ['-', '+'].map(|side| hunk.side(side)))
        .flatten()
        .filter(|(changed, line)| *changed && is_code(line))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_counted_and_nothing_else() {
        let text = "a /* b\n c */ d // e\n\"/* f */\\\"\" '\"' /**/ g\n";
        assert_eq!(strip(text), "a  \n d  \n\"/* f */\\\"\" '\"'   g\n");
        assert_eq!(lines("*p = 1;\n * the end of a comment\n */\n/* open\n"), 1);
        let text = "static int *a(int x,\n\t       int y)\n{\n\treturn 0;\n}\n\nstruct s {\n\tint x;\n};\n\n\
            bool b(void)\n{\n\tx();\n\n\t/* why */\n\treturn 1;\n}\n";
        assert_eq!(functions(text), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
        let patch = "From x\n---\n a.c | 2 +-\n\ndiff --git a/a.c b/a.c\n--- a/a.c\n+++ b/a.c\n@@ -1,3 +1,8 @@ f\n one\n-two\n+zwei\n+-- b/x.c\n+/* why\n+\n+ */\n+\n three\n\
            @@ -9,2 +14,3 @@\n * a comment\n+ * that grows\n */\n\
            diff --git a/new.c b/new.c\n--- /dev/null\n+++ b/new.c\n@@ -0,0 +1,2 @@\n+a\n+b\n\
            diff --git a/Kconfig b/Kconfig\n--- a/Kconfig\n+++ b/Kconfig\n@@ -1 +1 @@\n-a\n+b\n-- \n2.40\n";
        assert_eq!(changed_lines(patch), 3);
    }
}
