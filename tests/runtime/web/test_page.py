"""The live page in a real browser."""

import json
import re

import numpy as np
import pytest
from browser import DESKTOP, PHONE
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from servers import wait_for

TOKEN = "a-token-nobody-guesses"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("sources", [("door",), ("door", "yard", "gate", "street")], ids=len)
def test_the_page_shows_everything(browser, make_view, serve, tmp_path, sources, size, scheme):
    view = make_view(sources=sources)
    with serve(view) as server:
        browser.open(server.url, size, scheme)
        wait_for(lambda: browser.pictures() == len(sources), "the pictures")
        browser.shows("all well")
        wait_for(lambda: browser.count("#found tbody tr") == 3 * len(sources), "detections")
        browser.screenshot(tmp_path / f"page-{len(sources)}-{size[0]}-{scheme}.png")
        assert browser.driver.title == "porch-board · rkyolo"
        assert "shapes · rk3588 · int8 · rknnlite · 640\u00d7640 · 5 classes" in browser.text(
            "#model"
        )
        assert f"{20 * len(sources)}.0" in browser.text("#figures")
        assert "square" in browser.text("#found") and "0.97" in browser.text("#found")
        assert "Core 2" in browser.text("#npu") and "12 %" in browser.text("#npu")
        assert "7 outbox" in browser.text("#sinks")
        assert "26.4" in browser.text("#figures")
        for name in sources:
            assert f"rtsp://192.168.7.20:554/{name}" in browser.text("#sources")
        assert browser.fits()
        dark = browser.run("return getComputedStyle(document.body).backgroundColor")
        assert (dark == "rgb(16, 19, 18)") == (scheme == "dark")
        assert browser.errors() == []
        browser.leave()


def test_stages_of_one_source_and_of_several(browser, make_view, serve):
    with serve(make_view(sources=("door", "yard"))) as server:
        browser.open(server.url)
        wait_for(lambda: browser.count("#latency .bar-row") == 2, "a bar a source")
        assert browser.text("#latency").split() == ["door", "26.4", "yard", "26.4"]
        browser.driver.find_element(By.CSS_SELECTOR, ".views button:nth-child(3)").click()
        wait_for(lambda: browser.count("#latency .bar-row") == 5, "a bar a stage")
        stages = browser.text("#latency").split()
        assert stages[::4] == ["wait", "letterbox", "infer", "decode", "order"]
        assert stages[9] == "17.6"
        browser.leave()


def test_names_are_text_and_never_markup(browser, make_view, serve):
    view = make_view(sources=("door", "yard"))
    hostile = "<b class=in>x</b><script>document.title='broken in'</script>"
    view.sources["yard"].update(
        state="waiting", detail=hostile, **{"from": hostile, "type": hostile}
    )
    view.sinks["broker"].update(
        detail=hostile, to=hostile, more={hostile: hostile}, state="failing"
    )
    view.reload["error"] = hostile
    with serve(view) as server:
        browser.open(server.url)
        wait_for(lambda: "<img src=x" in browser.text("#found"), "the class with the hostile name")
        assert "<img src=x" in browser.text("#classes")
        for place in ("#alerts", "#sources", "#sinks", "#pictures"):
            assert hostile in browser.text(place), place
        assert browser.count(".in, main script, img[src=x], img[onerror]") == 0
        assert browser.driver.title == "porch-board · rkyolo"
        assert browser.errors() == []
        browser.leave()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_failures_stand_there_in_words(browser, make_view, serve, tmp_path, size):
    names = ("door", "never-came", "a-camera-with-a-very-long-name-at-the-back-of-the-garage-no-2")
    view = make_view(sources=names)
    detail = "rtsp://192.168.7.21:554/" + "long/" * 40 + " does not answer: is the camera on?"
    view.sources["never-came"].update(state="waiting", detail=detail)
    view.sources[names[2]].update(state="failed", detail="the password is wrong: change it")
    view.sources["door"].update(dropped=321, failed=7)
    view.sinks["broker"].update(state="dead", detail="hub refuses", queued=64, dropped=12345)
    view.reload["error"] = "sources.1.url: " + "x" * 300
    view.npu_load = None
    with serve(view) as server:
        browser.open(server.url, size)
        browser.shows("4 problems")
        wait_for(lambda: browser.pictures() == 1, "the picture of the source that works")
        browser.screenshot(tmp_path / f"failures-{size[0]}.png")
        states = browser.run(
            "return [...document.querySelectorAll('#sources .state')].map(s => s.innerText)"
        )
        assert states == ["running", "waiting", "failed"]
        assert "does not answer: is the camera on?" in browser.text("#sources")
        assert "the password is wrong: change it" in browser.text("#pictures")
        assert "The last reload failed" in browser.text("[role=alert]")
        assert "321 dropped" in browser.text("#sources").replace("\n", " ")
        assert "12.3k dropped" in browser.text("#sinks") and "64 of 64" in browser.text("#sinks")
        assert not browser.driver.find_element(By.ID, "npu").is_displayed()
        assert browser.fits()
        assert browser.errors() == []
        browser.leave()


def test_one_of_several_sources_is_chosen(browser, make_view, serve):
    view = make_view(sources=("door", "yard"))
    with serve(view) as server:
        browser.open(server.url)
        wait_for(lambda: browser.pictures() == 2, "both pictures")
        assert web(browser)["streams"] == 1  # the events; pictures come one by one
        choose = browser.driver.find_element(By.CSS_SELECTOR, ".views button:nth-child(2)")
        choose.send_keys(Keys.ENTER)
        wait_for(lambda: browser.count("figure") == 1, "one picture")
        wait_for(lambda: browser.pictures() == 1 and web(browser)["streams"] == 2, "its stream")
        assert browser.driver.current_url.endswith("#door")
        assert choose.get_attribute("aria-current") == "true"
        wait_for(lambda: browser.count("#found tbody tr") == 3, "its detections alone")
        browser.driver.refresh()
        wait_for(lambda: browser.pictures() == 1 and browser.count("figure") == 1, "the same again")
        browser.driver.find_element(By.CSS_SELECTOR, ".views button:nth-child(1)").click()
        wait_for(lambda: browser.count("figure") == 2 and web(browser)["streams"] == 1, "all")
        assert browser.errors() == []
        browser.leave()


def web(browser):
    return browser.run(
        "const ask = new XMLHttpRequest(); ask.open('GET', '/api/state', false); ask.send();"
        "return JSON.parse(ask.response).web"
    )


def test_a_page_that_is_left_takes_no_more(browser, make_view, serve):
    view = make_view()
    with serve(view) as server:
        browser.open(server.url)
        wait_for(lambda: browser.pictures() == 1 and view.callbacks, "the page")
        browser.leave()
        wait_for(lambda: view.callbacks == [], "the end of the events")


def test_a_source_that_comes_back(browser, make_view, serve):
    view = make_view(sources=("door", "yard"))
    with serve(view) as server:
        browser.open(server.url)
        wait_for(lambda: browser.pictures() == 2, "both pictures")
        view.sources["yard"].update(state="waiting", detail="the cable is out")
        browser.shows("the cable is out")
        wait_for(lambda: browser.count("#found tbody tr") == 3, "the other's detections alone")
        view.sources["door"]["state"] = "waiting"
        browser.shows("No frames now.")
        view.sources["door"]["state"] = "running"
        view.sources["yard"].update(state="running", detail=None)
        browser.shows("all well")
        wait_for(lambda: browser.count("#found tbody tr") == 6, "its detections")
        before = browser.run("return document.querySelectorAll('figure img')[1].src")
        moved = "return document.querySelectorAll('figure img')[1].src"
        wait_for(lambda: browser.run(moved) != before, "newer pictures")
        browser.leave()


def test_a_reload_changes_the_sources(browser, make_view, serve):
    view = make_view(sources=("door", "yard"))
    with serve(view) as server:
        browser.open(server.url + "#yard")
        wait_for(lambda: browser.pictures() == 1, "the picture")
        browser.shows("yard")
        view.sources = {"door": view.sources["door"]}
        wait_for(lambda: browser.text("figcaption .name") == "door", "the source that is left")
        wait_for(lambda: browser.pictures() == 1, "its picture")
        browser.leave()


def test_the_page_goes_on_after_a_restart(browser, make_view, serve):
    view = make_view()
    with serve(view) as server:
        port = server.address[1]
        browser.open(server.url)
        wait_for(lambda: browser.pictures() == 1, "the picture")
    browser.shows("The board does not answer.")
    assert browser.text("#health") == "no connection"
    view = make_view()
    with serve(view, port=port):
        browser.shows("all well")
        assert browser.text("#alerts") == ""
        wait_for(lambda: browser.pictures() == 1, "the picture again")
        wait_for(lambda: view.callbacks, "the events again")
        wait_for(lambda: web(browser)["streams"] == 2, "both streams again")
        browser.leave()


def test_logging_in(browser, make_view, serve, tmp_path):
    with serve(make_view(), host="0.0.0.0", token=TOKEN) as server:
        url = f"http://127.0.0.1:{server.address[1]}/"
        browser.open(url, PHONE)
        browser.screenshot(tmp_path / "login.png")
        assert (
            browser.run("return getComputedStyle(document.querySelector('h1')).fontSize") == "20px"
        )
        field = browser.driver.find_element(By.NAME, "token")
        field.send_keys("not the token", Keys.ENTER)
        browser.shows("That is not the token.")
        browser.driver.find_element(By.NAME, "token").send_keys(TOKEN, Keys.ENTER)
        browser.shows("all well")
        wait_for(lambda: browser.pictures() == 1, "the picture")
        assert browser.driver.current_url == url
        assert browser.run("return document.cookie") == ""
        assert TOKEN not in browser.driver.page_source
        wrong = [line for line in browser.errors() if "401" not in line["message"]]
        assert wrong == []
        browser.leave()


def test_a_session_that_ends_leads_to_the_form(browser, make_view, serve):
    with serve(make_view(), token=TOKEN) as server:
        port = server.address[1]
        browser.open(server.url)
        browser.driver.find_element(By.NAME, "token").send_keys(TOKEN, Keys.ENTER)
        browser.shows("all well")
    with serve(make_view(), token=TOKEN + "-new", port=port):
        browser.shows("This page needs the token")


def test_everything_can_be_reached_by_keyboard_and_has_a_name(browser, make_view, serve):
    with serve(make_view(sources=("door", "yard"))) as server:
        browser.open(server.url)
        wait_for(lambda: browser.pictures() == 2, "the pictures")
        assert browser.run("return document.documentElement.lang") == "en"
        nameless = browser.run(
            "return [...document.querySelectorAll('button, a, img, section, nav, [role=region]')]"
            ".filter(n => !(n.innerText || n.alt || n.hasAttribute('alt')"
            " || n.ariaLabel || n.hasAttribute('aria-labelledby'))).length"
        )
        assert nameless == 0
        reached = []
        for _ in range(12):
            browser.driver.switch_to.active_element.send_keys(Keys.TAB)
            reached.append(browser.driver.switch_to.active_element.text)
        assert {"All", "door", "yard", "State", "Metrics"} <= set(reached)
        browser.leave()


def test_text_has_contrast(browser, make_view, serve):
    with serve(make_view(sources=("door", "yard"))) as server:
        for scheme in ("light", "dark"):
            browser.open(server.url, scheme=scheme)
            browser.shows("all well")
            for state in ("running", "waiting", "failed", "ended"):
                browser.run(f"document.getElementById('health').dataset.state = '{state}'")
                assert contrast(browser, "#health") >= 4.5, (scheme, state)
            for selector in ("#model", "#figures dt", ".place", "footer a", ".views button"):
                assert contrast(browser, selector) >= 4.5, (scheme, selector)
        browser.leave()


def contrast(browser, selector):
    """WCAG's contrast ratio of an element's text against what is behind it."""
    colours = browser.run(
        f"let node = document.querySelector({json.dumps(selector)});"
        "const ink = getComputedStyle(node).color; let ground = 'rgba(0, 0, 0, 0)';"
        "while (ground === 'rgba(0, 0, 0, 0)') {"
        " ground = getComputedStyle(node).backgroundColor; node = node.parentElement; }"
        "return [ink, ground]"
    )
    lights = sorted(_luminance([int(v) for v in re.findall(r"\d+", c)[:3]]) for c in colours)
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _luminance(rgb):
    parts = (v / 255 for v in rgb)
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
