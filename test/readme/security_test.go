package readme

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the security model claims is shown by tests that exist.
func TestTheSecurityModelNamesTestsThatExist(t *testing.T) {
	page, err := os.ReadFile("../../README.md")
	must(t, err)
	_, section, found := strings.Cut(string(page), "\n## Security model\n")
	if !found {
		t.Fatal("the page has no security model")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	named := regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(section, -1)
	if len(named) < 15 {
		t.Errorf("only %d tests are named", len(named))
	}
	for _, row := range strings.Split(section, "\n") {
		if strings.HasPrefix(row, "| **") && !strings.Contains(row, "`Test") {
			t.Errorf("nothing shows this: %s", row)
		}
	}
	there := map[string]bool{}
	must(t, filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, f := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(source), -1) {
			there[f[1]] = true
		}
		return err
	}))
	for _, n := range named {
		if !there[n[1]] {
			t.Errorf("there is no %s", n[1])
		}
	}
}
