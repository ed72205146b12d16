package vaultgate

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
)

// maxSecretFile bounds what is read of a file that should hold a credential; a service account token has about 1 KiB.
const maxSecretFile = 64 << 10

// readSecret reads a file that holds one secret, without the white space around it. Errors name the file and never quote
// its content.
func readSecret(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, maxSecretFile+1))
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(raw))
	switch {
	case len(raw) > maxSecretFile:
		return "", fmt.Errorf("%s: over %d bytes long, that is no credential", path, maxSecretFile)
	case secret == "":
		return "", fmt.Errorf("%s: empty", path)
	case strings.HasPrefix(secret, "{"):
		return "", fmt.Errorf("%s: holds JSON instead of the bare secret; a sink of Vault Agent must be neither wrapped nor encrypted", path)
	case strings.ContainsFunc(secret, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }):
		return "", fmt.Errorf("%s: holds more than one word, or characters that do not print", path)
	}
	return secret, nil
}

// digest tells whether a file has changed, whatever replaced it (a rename, a symbolic link, a write). An unreadable file
// has a digest too.
func digest(paths ...string) [sha256.Size]byte {
	h := sha256.New()
	for _, path := range paths {
		secret, err := readSecret(path)
		fmt.Fprintf(h, "%d %s %t\n", len(secret), secret, errors.Is(err, os.ErrNotExist))
	}
	return [sha256.Size]byte(h.Sum(nil))
}
