package vaulttest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrNotBuilt says that a program which the tests need has not been built yet.
var ErrNotBuilt = errors.New("not built yet")

// Required reports whether missing programs are a failure, as they are under
// make test, instead of a reason to skip.
func Required() bool { return os.Getenv("AMPORA_E2E") != "" }

// BinDir returns where the built programs are: the directory AMPORA_BIN, or bin/
// in the repository that the working directory belongs to.
func BinDir() (string, error) {
	if dir := os.Getenv("AMPORA_BIN"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for start := dir; ; dir = filepath.Dir(dir) {
		// The plugin's folder tells our go.mod from one of a module nested in the repository.
		if exists(filepath.Join(dir, "go.mod")) && exists(filepath.Join(dir, "plugin")) {
			return filepath.Join(dir, "bin"), nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is in no checkout of Ampora, and AMPORA_BIN does not say where the programs are", start)
		}
	}
}

// Bin returns the path of a built program: "vault", one of ours, or one of the
// tools in bin/tools. An error wraps ErrNotBuilt and names the make target to run.
func Bin(name string) (string, error) {
	dir, err := BinDir()
	if err != nil {
		return "", err
	}
	for _, path := range []string{filepath.Join(dir, name), filepath.Join(dir, "tools", name)} {
		if exists(path) {
			return path, nil
		}
	}
	target := "tools"
	switch name {
	case "vault":
		target = "vault"
	case "ampora", "ampora-edge", ampora:
		target = "build"
	}
	return "", fmt.Errorf("%s is %w in %s: run 'make %s' first", name, ErrNotBuilt, dir, target)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
