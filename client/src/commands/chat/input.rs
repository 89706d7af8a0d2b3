//! Input: a text that is being written, and where the cursor is in it.

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Input {
    before: String,
    after: String,
}

impl Input {
    /// All of it.
    pub(super) fn text(&self) -> String {
        format!("{}{}", self.before, self.after)
    }

    /// What is before the cursor.
    pub(super) fn before(&self) -> &str {
        &self.before
    }

    pub(super) fn insert(&mut self, text: &str) {
        self.before.push_str(text);
    }

    pub(super) fn backspace(&mut self) {
        self.before.pop();
    }

    pub(super) fn delete(&mut self) {
        if !self.after.is_empty() {
            self.after.remove(0);
        }
    }

    pub(super) fn left(&mut self) {
        if let Some(character) = self.before.pop() {
            self.after.insert(0, character);
        }
    }

    pub(super) fn right(&mut self) {
        if !self.after.is_empty() {
            self.before.push(self.after.remove(0));
        }
    }

    pub(super) fn home(&mut self) {
        self.after = self.text();
        self.before.clear();
    }

    pub(super) fn end(&mut self) {
        self.before = self.text();
        self.after.clear();
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes all of it away.
    pub(super) fn take(&mut self) -> String {
        let text = self.text();
        self.clear();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_written_where_the_cursor_is() {
        let mut input = Input::default();
        input.insert("häuser");
        input.left();
        input.left();
        input.backspace();
        input.insert("ß");
        assert_eq!((input.text().as_str(), input.before()), ("häußer", "häuß"));
        input.delete();
        input.home();
        input.delete();
        input.right();
        input.insert("x");
        assert_eq!((input.text().as_str(), input.before()), ("äxußr", "äx"));
        input.end();
        input.right();
        input.delete();
        assert_eq!((input.take().as_str(), input.text().as_str()), ("äxußr", ""));
        input.backspace();
        input.left();
        assert_eq!(input.text(), "");
    }
}
