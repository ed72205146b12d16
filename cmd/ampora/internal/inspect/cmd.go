package inspect

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/ampora/ampora/cmd/ampora/internal/console"
	"github.com/ampora/ampora/cmd/ampora/internal/hint"
	"github.com/ampora/ampora/plugin/handover"
)

// maxInput bounds what is read, except for handover files: the largest other thing worth looking at is a bundle of some certificates.
const maxInput = 1 << 20

// Cmd is "ampora inspect".
type Cmd struct {
	File string `arg:"" optional:"" default:"-" help:"What to look at: a file, an identity directory, or '-' for the standard input. Never paste a secret as an argument."`
	// Bundle is the sender's, for documents of peers.
	Bundle string `placeholder:"FILE" help:"The bundle file of the peer that has signed it: a handover token, receipt or newer bundle is then checked by its keys."`
	JSON   bool   `help:"Answer in JSON."`
}

// Run looks at the input and fails when something in it cannot be used.
func (c *Cmd) Run(con *console.Console) error {
	if c.File == "-" && con.Interactive() {
		con.Sayf("Paste it, then press Ctrl-D:")
	}
	report, err := c.report(con)
	if err != nil {
		return err
	}
	if c.JSON {
		enc := json.NewEncoder(con.Out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(report); err != nil {
			return err
		}
	} else {
		show(con, report)
	}
	if !report.Intact() {
		return ErrNotIntact
	}
	return nil
}

// ErrNotIntact ends a run whose report already says what is wrong.
var ErrNotIntact = hint.New("not everything here can be used as it is")

func (c *Cmd) report(con *console.Console) (Report, error) {
	if info, err := os.Stat(c.File); err == nil && info.IsDir() {
		return inspectDir(con, c.File)
	}
	if looksSecret(c.File) {
		return Report{}, hint.New("a secret was given as an argument, where other users of this machine can read it",
			"give it on the standard input: 'ampora inspect', then paste it", "treat it as seen: revoke it, and issue another")
	}
	peer, err := c.peer(con)
	if err != nil {
		return Report{}, err
	}
	if isDocument(c.File) { // no secret: a handover token is good for one peer and one agent's certificate
		return Inspect([]byte(c.File), time.Now(), peer...), nil
	}
	data, err := con.ReadInput(c.File, handover.MaxFile)
	if err != nil {
		return Report{}, err
	}
	return Inspect(data, time.Now(), peer...), nil
}

// peer reads the bundle file, if one is named.
func (c *Cmd) peer(con *console.Console) ([]handover.PeerKeys, error) {
	if c.Bundle == "" {
		return nil, nil
	}
	data, err := con.ReadInput(c.Bundle, maxInput)
	if err != nil {
		return nil, err
	}
	advice := "it is the file that 'vault read -format=json -field=data ampora/federation/bundle' makes on the other side"
	card, found := cardIn(data)
	if !found {
		return nil, hint.New("--bundle names no bundle file of a peer", advice)
	}
	keys, err := keysOf(card)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("--bundle: %w", err), advice)
	}
	return []handover.PeerKeys{*keys}, nil
}

// inspectDir looks at the files of an identity together, so that a key can be matched with its certificate.
func inspectDir(con *console.Console, dir string) (Report, error) {
	var (
		all   []byte
		files []string
	)
	for _, name := range []string{"cert.pem", "key.pem", "ca.pem"} {
		data, err := con.ReadInput(filepath.Join(dir, name), maxInput)
		if err != nil {
			if _, statErr := os.Stat(filepath.Join(dir, name)); errors.Is(statErr, fs.ErrNotExist) {
				continue
			}
			return Report{}, err
		}
		for range Inspect(data, time.Now()).Items {
			files = append(files, name)
		}
		all = append(append(all, data...), '\n')
	}
	if len(files) == 0 {
		return Report{}, hint.New(fmt.Sprintf("there is no identity in %s", dir), "an identity has cert.pem, key.pem and ca.pem; 'ampora enroll' makes one")
	}
	report := Inspect(all, time.Now())
	for i := range report.Items {
		if len(files) == len(report.Items) {
			report.Items[i].File = files[i]
		}
	}
	return report, nil
}

// show writes the report for people.
func show(con *console.Console, r Report) {
	for i, item := range r.Items {
		if i > 0 {
			con.Printf("\n")
		}
		state := "intact"
		if !item.Intact {
			state = "NOT usable"
		}
		con.Printf("%s: %s\n", item.Kind, state)
		w := tabwriter.NewWriter(con.Out, 0, 0, 2, ' ', 0)
		row := func(name string, value any) { fmt.Fprintf(w, "  %s\t%s\n", name, console.Plain(fmt.Sprint(value))) }
		if item.File != "" {
			row("file", item.File)
		}
		if item.Problem != "" {
			row("problem", item.Problem)
		}
		for _, g := range item.Guesses {
			row("guess", g)
		}
		for _, f := range item.Fields {
			row(f.Name, f.Value)
		}
		w.Flush()
	}
}
