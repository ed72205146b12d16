// Package standin does for curl and jq where a machine has neither: our pages and the demo show them at work, and a fresh
// machine need only have Go, make and git. A program that calls Main first thing can be run under their names.
package standin

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Main does the work and ends the process when it was called under the name of a stand-in.
func Main() {
	switch filepath.Base(os.Args[0]) {
	case "curl":
		os.Exit(curl(os.Args[1:]))
	case "jq":
		os.Exit(jq(os.Args[1:]))
	}
}

// Dir makes a folder for the end of a PATH, in which those of the programs stand that the machine does not have.
func Dir(path string, programs ...string) (string, error) {
	if err := os.Mkdir(path, 0o700); err != nil {
		return "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	for _, program := range programs {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		if err := os.Symlink(self, filepath.Join(path, program)); err != nil {
			return "", err
		}
	}
	return path, nil
}

// words are the values of a flag that may be given more than once.
type words []string

func (w *words) String() string         { return strings.Join(*w, " ") }
func (w *words) Set(value string) error { *w = append(*w, value); return nil }

// curl knows what our pages use of it.
func curl(args []string) int {
	flags := flag.NewFlagSet("curl", flag.ContinueOnError)
	strict, insecure := flags.Bool("fsS", false, ""), flags.Bool("sk", false, "")
	flags.Bool("sS", false, "")
	flags.Int("retry", 0, "")
	method, body, ca := flags.String("X", http.MethodGet, ""), flags.String("d", "", ""), flags.String("cacert", "", "")
	var headers words
	flags.Var(&headers, "H", "")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	req, err := http.NewRequest(*method, flags.Arg(0), strings.NewReader(*body))
	if err != nil {
		return 3
	}
	for _, header := range headers {
		if file, found := strings.CutPrefix(header, "@"); found {
			raw, err := os.ReadFile(file)
			if err != nil {
				return 26
			}
			header = strings.TrimSpace(string(raw))
		}
		if name, value, found := strings.Cut(header, ": "); found {
			req.Header.Set(name, value)
		}
	}
	config := &tls.Config{InsecureSkipVerify: *insecure} // what -k means
	if *ca != "" {
		raw, err := os.ReadFile(*ca)
		if err != nil {
			return 77
		}
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(raw)
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: config}}
	resp, err := client.Do(req)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 7
	}
	defer resp.Body.Close()
	if *strict && resp.StatusCode >= 400 {
		fmt.Fprintln(os.Stderr, "curl: (22) The requested URL returned error:", resp.StatusCode)
		return 22
	}
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil {
		return 23
	}
	return 0
}

// jq knows -r .field.
func jq(args []string) int {
	var fields map[string]any
	if len(args) != 2 || args[0] != "-r" || json.NewDecoder(os.Stdin).Decode(&fields) != nil {
		return 2
	}
	fmt.Println(fields[strings.TrimPrefix(args[1], ".")])
	return 0
}
