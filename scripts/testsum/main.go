// Command testsum counts tests. It exists so that one line at the end of make test
// says how many passed, whatever ran them, and so that none can go missing unseen.
//
//	go test -json ./... | testsum -into FILE     shows and records a run
//	testsum -into FILE -check lint -status 1     records a step that is not a Go test
//	testsum -total FILE                          prints what failed and the sums
//
// A skipped test is a failure here, and so is a run without any test.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// event is a line of go test -json.
type event struct {
	Action      string
	Package     string
	ImportPath  string // instead of Package, for the output of a build
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

// result is one line of the file that the runs are recorded in.
type result struct {
	Name    string
	Passed  int
	Failed  []string `json:",omitempty"`
	Skipped []string `json:",omitempty"`
}

func (r result) good() bool { return len(r.Failed) == 0 && len(r.Skipped) == 0 && r.Passed > 0 }

func main() {
	into := flag.String("into", "", "file to record the result in")
	name := flag.String("name", "go test", "what the run is called")
	check := flag.String("check", "", "record a step of this name instead of reading go test -json")
	status := flag.Int("status", 0, "the exit status of the step")
	total := flag.String("total", "", "print the sums of this file")
	quiet := flag.Duration("quiet", time.Minute, "say what is running after so much silence")
	flag.Parse()

	var ok bool
	var err error
	switch {
	case *total != "":
		ok, err = sum(*total, os.Stdout)
	case *into == "":
		err = fmt.Errorf("one of -into and -total is needed")
	case *check != "":
		r := result{Name: *check, Passed: 1}
		if *status != 0 {
			r.Passed, r.Failed = 0, []string{*check}
		}
		ok, err = r.good(), record(*into, r)
	default:
		r := follow(os.Stdin, os.Stdout, *name, *quiet)
		ok, err = r.good(), record(*into, r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// follow reads a run of go test -json and tells what matters of it: a line for each
// package, and everything that a failed or skipped test printed.
func follow(in io.Reader, out io.Writer, name string, quiet time.Duration) result {
	r := result{Name: name}
	type key struct{ pkg, test string }
	var (
		mu      sync.Mutex
		running = map[key]bool{}
		last    = time.Now()
	)
	outputs := map[key][]string{}
	passed, failed := map[string]int{}, map[string]int{}

	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(quiet / 4):
			}
			mu.Lock()
			if time.Since(last) > quiet && len(running) > 0 {
				var names []string
				for k := range running {
					names = append(names, k.test)
				}
				slices.Sort(names)
				fmt.Fprintf(out, "    still running: %s\n", strings.Join(names[:min(len(names), 8)], ", "))
				last = time.Now()
			}
			mu.Unlock()
		}
	}()

	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		mu.Lock()
		last = time.Now()
		var e event
		if len(line) > 0 && json.Unmarshal(line, &e) != nil {
			fmt.Fprintf(out, "%s", line) // a word from the go command itself
		}
		k := key{e.Package, e.Test}
		switch e.Action {
		case "run":
			running[k] = true
		case "output":
			outputs[k] = append(outputs[k], e.Output)
		case "build-output":
			fmt.Fprint(out, e.Output)
		case "pass", "fail", "skip":
			delete(running, k)
			full := strings.TrimSpace(e.Package + " " + e.Test)
			switch {
			case e.Test != "" && e.Action == "pass":
				r.Passed++
				passed[e.Package]++
			case e.Test != "" && e.Action == "fail":
				r.Failed = append(r.Failed, full)
				failed[e.Package]++
				fmt.Fprintf(out, "--- FAIL %s\n%s", full, strings.Join(outputs[k], ""))
			case e.Test != "" && e.Action == "skip":
				r.Skipped = append(r.Skipped, full)
				fmt.Fprintf(out, "--- SKIP %s\n%s", full, strings.Join(outputs[k], ""))
			case e.Action == "pass":
				fmt.Fprintf(out, "ok    %s  %d passed  %.1f s\n", e.Package, passed[e.Package], e.Elapsed)
			case e.Action == "fail":
				// What was running when the package ended did not pass.
				for k := range running {
					if k.pkg == e.Package {
						delete(running, k)
						failed[e.Package]++
						r.Failed = append(r.Failed, k.pkg+" "+k.test)
						fmt.Fprintf(out, "--- FAIL %s %s (never ended)\n%s", k.pkg, k.test, strings.Join(outputs[k], ""))
					}
				}
				if failed[e.Package] == 0 {
					r.Failed = append(r.Failed, e.Package)
				}
				fmt.Fprintf(out, "FAIL  %s  %d passed, %d failed  %.1f s\n%s", e.Package, passed[e.Package], failed[e.Package], e.Elapsed, strings.Join(outputs[k], ""))
			}
			delete(outputs, k)
		}
		mu.Unlock()
		if err != nil {
			break
		}
	}
	// The go command may have been killed: then some packages never ended.
	for k := range running {
		r.Failed = append(r.Failed, k.pkg+" "+k.test)
	}
	slices.Sort(r.Failed)
	return r
}

func record(path string, r result) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(raw, '\n')); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// sum prints what has been recorded; the last line holds the numbers alone.
func sum(path string, out io.Writer) (good bool, err error) {
	raw, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return false, err
	}
	var passed, failed, skipped int
	good = true
	for line := range strings.Lines(string(raw)) {
		var r result
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return false, fmt.Errorf("%s: %w", path, err)
		}
		for _, f := range r.Failed {
			fmt.Fprintf(out, "failed in %s: %s\n", r.Name, f)
		}
		for _, s := range r.Skipped {
			fmt.Fprintf(out, "skipped in %s, which counts as a failure: %s\n", r.Name, s)
		}
		if r.Passed+len(r.Failed)+len(r.Skipped) == 0 {
			fmt.Fprintf(out, "no test ran in %s\n", r.Name)
		}
		passed, failed, skipped = passed+r.Passed, failed+len(r.Failed), skipped+len(r.Skipped)
		good = good && r.good()
	}
	if passed == 0 {
		good = false
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	return good, nil
}
