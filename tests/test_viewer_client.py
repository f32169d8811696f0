"""What pages say is anything until it has been checked; what they are told is JSON."""

import json

import pytest

from gaussiantalker_ns.viewer.client import (
    MAX_MESSAGE_LENGTH,
    ClientMessage,
    Page,
    page_script,
    parse_message,
)


def test_answers_of_our_page():
    text = '{"kind":"clock","epoch":3,"seconds":1.5,"margins":[[7,0.04],[8,-0.1]],"serial":1}'
    assert parse_message(text) == ClientMessage("clock", 3, 1.5, ((7, 0.04), (8, -0.1)))
    assert parse_message('{"kind":"seek","frame":12}') == ClientMessage("seek", frame=12)
    assert parse_message('{"kind":"refused","bytes":99}') == ClientMessage("refused", num_bytes=99)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        '{"kind":"delete"}',
        '{"kind":["seek"]}',
        '{"kind":"seek","frame":"3"}',
        '{"kind":"seek","frame":true}',
        '{"kind":"seek","frame":NaN}',
        '{"kind":"seek","frame":1e300}',
        '{"kind":"clock","seconds":Infinity}',
        '{"kind":"clock","margins":[[1]]}',
        '{"kind":"clock","margins":[[1,"2"]]}',
        '{"kind":"clock","margins":{"a":1}}',
        '{"kind":"seek","frame":1,"x":"' + "y" * MAX_MESSAGE_LENGTH + '"}',
        "[" * (MAX_MESSAGE_LENGTH - 1),
    ],
)
def test_other_answers_are_ignored(text):
    assert parse_message(text) is None


def test_texts_reach_the_page_as_json_only():
    sources = []

    class Recorder(Page):
        def __init__(self):
            pass

        def _run(self, source):
            sources.append(source)

    hostile = '"});alert(1);//</script>\u2028'
    Recorder().show_track({"label": hostile})
    (source,) = sources
    call = source.removeprefix("gaussianTalker.track(").removesuffix(")")
    assert json.loads(call) == {"label": hostile}
    assert source.isascii()


def test_the_script_is_part_of_the_package():
    assert "window.gaussianTalker = {" in page_script()
