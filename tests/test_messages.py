"""Every message is short, says what to do, and stands in docs/messages.md."""

import re

import pytest

from tests import message_table

MESSAGES = message_table.messages()
LONGEST = 35  # words of a sentence, of which code and alternatives are most
# Of these the sentence is the finding of somebody else, and what is to be done stands around it.
NO_REMEDY = (
    "is already registered",
    "has no attribute",
    "inherits no attribute",
    "` has no ",
    "` takes no ",
    "The listener",
)


def _sentences(text):
    """The sentences of a message; what stands in backticks or brackets is one word."""
    plain = re.sub(r"`[^`]*`", "CODE", re.sub(r"\([^()]*\)", "", text))
    return [each for each in re.split(r"(?<=[.?!])\s+(?=[A-Z⟨])", plain) if each]


def test_document_is_current():
    assert message_table.DOCUMENT.read_text() == message_table.document()


def test_every_exception_has_a_message():
    written = {message.kind for message in MESSAGES}
    made_of_others = {"SolvertapError", "RoundingWarning"}
    assert set(message_table.KINDS) - made_of_others <= written
    assert len(MESSAGES) > 200


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.text[:40])
def test_message_is_at_most_three_short_sentences(message):
    sentences = _sentences(message.text)
    assert len(sentences) <= 3
    assert max(len(each.split()) for each in sentences) <= LONGEST
    assert message.text[-1] in ".]⟩"
    assert message.text.count("`") % 2 == 0


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.text[:40])
def test_message_says_what_to_do(message):
    if any(words in message.text for words in NO_REMEDY):
        return
    assert len(_sentences(message.text)) > 1 or re.search("[;:]", message.text), message.text
