"""Step `gate`: the gate's own parts, because a gate that counts wrongly passes everything."""

import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conformance import baseline  # noqa: E402
from gate import bridge, client, counts, coverage, installs, processes, rows  # noqa: E402
from gate.places import ROOT  # noqa: E402

JUNIT = """<testsuites><testsuite name="switchyard">
<testcase name="upstream::f17_huge_line" classname="switchyard"/>
<testcase name="f20_forks" classname="switchyard::faults"><system-out>skipped: needs /proc</system-out></testcase>
<testcase name="breaks" classname="switchyard"><failure type="test failure" message="left != right"/></testcase>
</testsuite></testsuites>"""


class Counting(unittest.TestCase):
    """Reports become the right numbers."""

    def test_junit_moves_tests_that_skip_themselves(self):
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "junit.xml"
            report.write_text(JUNIT)
            tally = counts.from_junit(report)
        self.assertEqual(tally.passed, 1)
        self.assertEqual([row.detail for row in tally.skipped], ["needs /proc"])
        self.assertEqual([row.detail for row in tally.failures], ["left != right"])
        self.assertEqual(tally.notes, ["fault rows passed (1): F17"])

    def test_an_ignored_test_needs_a_reason(self):
        listing = '{"rust-suites": {"s": {"testcases": {"a::told": {"ignored": true}, "a::mute": {"ignored": true}}}}}'
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "a.rs"
            source.write_text('#[test]\n#[ignore = "needs a disk"]\nfn told() {}\n#[test]\n#[ignore]\nfn mute() {}\n')
            told, mute = counts.ignored(listing, [source])
        self.assertEqual((told.ok, told.detail), (None, "needs a disk"))
        self.assertIs(mute.ok, False)

    def test_libtest_sums_over_binaries(self):
        output = (
            "test a ... FAILED\ntest result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured\n"
            "skipped: needs a cgroup\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured\n"
        )
        tally = counts.from_libtest(output)
        self.assertEqual((tally.passed, len(tally.failures), len(tally.skipped)), (4, 1, 2))
        self.assertEqual(tally.failures[0].name, "a")

    def test_rows_keep_the_three_outcomes_apart(self):
        tally = rows.read('noise\n{"name":"a","ok":true}\n{"name":"b","ok":null,"detail":"why"}\n{"name":"c","ok":false}\n')
        self.assertEqual((tally.passed, len(tally.failures), len(tally.skipped)), (1, 1, 1))


class Baseline(unittest.TestCase):
    """Expected failures excuse what they name and nothing else."""

    def judge(self, listed, checks):
        entries = {entry: "reason" for entry in listed}
        return {row.name: (row.ok, row.detail) for row in baseline.judge(["s"], {"s": checks}, entries)}

    def test_an_unlisted_failure_fails(self):
        self.assertIs(self.judge([], [("x", "FAILURE", "boom")])["s"][0], False)

    def test_an_unlisted_warning_fails(self):
        self.assertIs(self.judge([], [("x", "SUCCESS", ""), ("y", "WARNING", "hm")])["s"][0], False)

    def test_a_listed_check_excuses_only_itself(self):
        self.assertIsNone(self.judge(["s:x"], [("x", "FAILURE", "boom"), ("y", "SUCCESS", "")])["s"][0])
        self.assertIs(self.judge(["s:x"], [("x", "FAILURE", "boom"), ("y", "FAILURE", "other")])["s"][0], False)

    def test_a_listed_failure_that_passes_fails(self):
        self.assertIs(self.judge(["s:x"], [("x", "SUCCESS", "")])["expected s:x"][0], False)
        self.assertIs(self.judge(["s"], [("x", "SUCCESS", "")])["expected s"][0], False)

    def test_a_listed_check_that_is_gone_fails(self):
        self.assertIs(self.judge(["s:gone"], [("x", "SUCCESS", "")])["expected s:gone"][0], False)

    def test_a_scenario_without_a_verdict_fails(self):
        self.assertIs(self.judge([], [("x", "SKIPPED", ""), ("y", "INFO", "")])["s"][0], False)
        self.assertIs({row.name: row.ok for row in baseline.judge(["s"], {}, {})}["s"], False)

    def test_an_entry_for_a_scenario_outside_the_set_fails(self):
        self.assertIs({row.name: row.ok for row in baseline.judge([], {}, {"t": "why"})}["expected t"], False)

    def test_outside_the_score_a_warning_fails_and_what_does_not_apply_says_so(self):
        def ok(*checks):
            return baseline.unscored("s", list(checks)).ok

        self.assertIs(ok(("x", "SUCCESS", ""), ("y", "WARNING", "hm")), False)
        self.assertIs(ok(("x", "SUCCESS", ""), ("y", "INFO", "told")), True)
        self.assertIsNone(ok(("x", "INFO", "told")))
        self.assertIs(ok(), False)

    def test_every_entry_needs_a_reason(self):
        self.assertEqual(baseline.parse("server:\n  - a:b  # because\n"), {"a:b": "because"})
        with self.assertRaises(ValueError):
            baseline.parse("server:\n  - a\n")


class Coverage(unittest.TestCase):
    """Names lead to requirements, and nothing else does."""

    def test_rust_names_carry_one_or_several(self):
        self.assertEqual(coverage.identifiers("s_tool_01_03_lists"), ["S-TOOL-01", "S-TOOL-03"])
        self.assertEqual(coverage.identifiers("f20_s_stdio_03_s_canc_06_x"), ["S-STDIO-03", "S-CANC-06"])
        self.assertEqual(coverage.identifiers("s_http_2024_11_05"), [])
        self.assertEqual(coverage.identifiers("every_s"), [])

    def test_ignored_and_commented_ones_show_nothing(self):
        with tempfile.TemporaryDirectory(dir=ROOT / "tests") as folder:
            rust, script = Path(folder) / "a.rs", Path(folder) / "a.mjs"
            rust.write_text('#[ignore = "why"]\nfn s_a_01_x() {}\nfn s_a_02_y() {}\n// s_a_03_z\n')
            script.write_text("// S-B-01 is elsewhere\nthat('S-B-02 S-B-03 holds');\nthat(`${who}/S-B-04 too`);\n")
            found = {}
            coverage.rust_tests([rust], found)
            coverage.script_rows([script], found)
        self.assertEqual(sorted(found), ["S-A-02", "S-B-02", "S-B-03", "S-B-04"])

    def test_a_requirement_needs_a_test_or_a_reason_and_not_both(self):
        self.assertIs(coverage.judge("S-A-01", [], None)[0], False)
        self.assertIs(coverage.judge("S-A-01", ["t"], "r")[0], False)
        self.assertTrue(coverage.judge("S-A-01", ["t"], None)[0] and coverage.judge("S-A-01", [], "r")[0])
        with self.assertRaises(ValueError):
            coverage.reasons("S-A-01:\n")


class Bridge(unittest.TestCase):
    """A row says something of every column, and only a cell that exists can be expected to fail."""

    def test_every_column_is_spoken_of_once(self):
        whole, wrong = bridge.read_rows('row!(plain: [l_to_l m_to_m_http] { m_to_m_stdio: "why", l_to_m: "as before", m_to_l: "else" });\n')
        self.assertEqual(wrong, [])
        self.assertEqual([whole["plain"][column].word for column in bridge.COLUMNS], ["ok"] * 2 + ["n.a."] * 4 + ["ok", "n.a."])
        self.assertEqual([whole["plain"][column].reason for column in ("l_to_m_http", "m_to_l_stdio")], ["why", "else"])
        self.assertTrue(bridge.read_rows("row!(half: [l_to_l]);\n")[1])
        self.assertTrue(bridge.read_rows("row!(more: [every l_to_l]);\n")[1])

    def test_what_does_not_exist_cannot_be_expected_to_fail(self):
        matrix, _ = bridge.read_rows('row!(a: [l_to_l l_to_m m_to_l] { m_to_m: "none" });\n')
        self.assertEqual(bridge.expect(matrix, "a::l_to_l_http\tbecause\n"), [])
        self.assertEqual(matrix["a"]["l_to_l_http"], bridge.Cell("fails", "because"))
        for unfit in ("a::m_to_m_http\tbecause\n", "b::l_to_l_http\tbecause\n", "a::l_to_m_http\n"):
            self.assertTrue(bridge.expect(matrix, unfit), unfit)


class Processes(unittest.TestCase):
    """Nothing outlives a run."""

    def test_a_command_past_its_time_is_ended(self):
        with tempfile.TemporaryFile() as log:
            self.assertIsNone(processes.run_bounded(["sleep", "60"], log, 0.2, ROOT, dict(os.environ)))

    @unittest.skipUnless(sys.platform == "linux", "needs /proc and child subreapers")
    def test_orphans_are_found_and_ended(self):
        code = (
            "import subprocess, sys; sys.path.insert(0, sys.argv[1])\n"
            "from gate import processes\n"
            "processes.adopt_orphans()\n"
            "subprocess.run(['sh', '-c', 'setsid sleep 61 >/dev/null 2>&1 &'])\n"
            "print(processes.left_behind(0.2), processes.own_children())\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(ROOT / "tests")], capture_output=True, text=True, timeout=30, check=True
        )
        self.assertEqual(done.stdout.strip(), "['sleep 61'] {}")

    def test_a_server_is_stopped_politely_and_forcibly(self):
        with tempfile.TemporaryDirectory() as folder:
            for trap, code in (("exit 0", 0), ("", None)):
                script = f"trap '{trap}' TERM; echo ready 7; while :; do sleep 0.05; done"
                server = processes.Server(["sh", "-c", script], Path(folder) / "log")
                self.assertEqual(server.expect(r"ready (\d)", 10), "7")
                self.assertEqual(server.stop(seconds=1), code)
                with self.assertRaises(ProcessLookupError):
                    os.kill(server.pid, signal.SIGTERM)


class Events(unittest.TestCase):
    """The plain client reads streams as they are."""

    def test_fields_comments_and_lines_of_data(self):
        stream = b": alive\r\nid: 1\r\ndata:\r\n\r\nretry:5\n\nevent: message\nid: 2\ndata: {\ndata: }\n\nid: cut"
        read = list(client.events(stream.splitlines(keepends=True)))
        self.assertEqual(read, [{"id": "1", "data": ""}, {"retry": "5"}, {"event": "message", "id": "2", "data": "{\n}"}])


class LockFiles(unittest.TestCase):
    """Lock files pin everything and name no registry."""

    def test_npm_lock_files_name_no_host(self):
        for folder in ("conformance", "peers"):
            text = (ROOT / "tests" / folder / "package-lock.json").read_text()
            self.assertNotIn('"resolved"', text)
            self.assertIn('"integrity"', text)
            self.assertIn("omit-lockfile-registry-resolved=true", (ROOT / "tests" / folder / ".npmrc").read_text())

    def test_the_rust_peers_stand_apart(self):
        package = ROOT / "tests" / "peers" / "rmcp"
        self.assertIn("\n[workspace]\n", (package / "Cargo.toml").read_text())
        self.assertIn('name = "rmcp"\nversion = "0.10.0"', (package / "Cargo.lock").read_text())
        self.assertNotIn('name = "rmcp"', (ROOT / "Cargo.lock").read_text())

    def test_python_requirements_are_exact(self):
        for line in (ROOT / "tests" / "peers" / "requirements.txt").read_text().splitlines():
            if line and not line.startswith("#"):
                self.assertRegex(line, r"^[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*$")

    def test_installations_follow_their_lock_file(self):
        with tempfile.TemporaryDirectory() as folder:
            lock = Path(folder) / "lock"
            previous, installs.INSTALLED = installs.INSTALLED, Path(folder) / "installed"
            try:
                lock.write_text("one")
                first, complete = installs._fresh("kind", [lock], "v1")
                self.assertFalse(complete)
                (first / "complete").touch()
                self.assertEqual(installs._fresh("kind", [lock], "v1"), (first, True))
                lock.write_text("two")
                second, complete = installs._fresh("kind", [lock], "v1")
                self.assertFalse(complete)
                self.assertNotEqual(first, second)
                self.assertFalse(first.exists())
            finally:
                installs.INSTALLED = previous


class Reporting(unittest.TextTestResult):
    """Each test as a row."""

    def addSuccess(self, test):
        super().addSuccess(test)
        rows.tell(test.id().removeprefix("__main__."), True)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        rows.tell(test.id().removeprefix("__main__."), False, str(err[1]))

    def addError(self, test, err):
        super().addError(test, err)
        rows.tell(str(test), False, repr(err[1]))

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        rows.tell(test.id().removeprefix("__main__."), None, reason)


if __name__ == "__main__":
    unittest.main(testRunner=unittest.TextTestRunner(resultclass=Reporting, stream=sys.stderr, verbosity=2))
