package ampora_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/sdk/logical"
)

var update = flag.Bool("update", false, "write the golden file of the API")

// TestTheAPIIsTheGoldenFile makes every change of the API a visible one. sys/internal/specs/openapi shows the same document.
func TestTheAPIIsTheGoldenFile(t *testing.T) {
	golden := filepath.Join("testdata", "openapi.txt")
	now := outline(document(t, newMount(t)))
	if *update {
		if err := os.WriteFile(golden, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	raw, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	was := strings.SplitAfter(string(raw), "\n")
	is := strings.SplitAfter(now, "\n")
	for _, line := range was {
		if !slices.Contains(is, line) {
			t.Errorf("is gone:  %s", line)
		}
	}
	for _, line := range is {
		if !slices.Contains(was, line) {
			t.Errorf("is new:   %s", line)
		}
	}
	if !t.Failed() && now != string(raw) {
		t.Error("the lines are not in order")
	}
	if t.Failed() {
		t.Log("if the change is meant, 'go test ./plugin -run GoldenFile -update' writes it down")
	}
}

// specification is what is of interest in an OpenAPI document.
type specification struct {
	Paths map[string]item `json:"paths"`
}

// item is one path.
type item struct {
	Parameters      []parameter `json:"parameters"`
	Unauthenticated bool        `json:"x-vault-unauthenticated"`
	Sudo            bool        `json:"x-vault-sudo"`
	Get             *operation  `json:"get"`
	Post            *operation  `json:"post"`
	Patch           *operation  `json:"patch"`
	Delete          *operation  `json:"delete"`
}

type operation struct {
	ID          string            `json:"operationId"`
	Summary     string            `json:"summary"`
	Parameters  []parameter       `json:"parameters"`
	RequestBody body              `json:"requestBody"`
	Responses   map[string]answer `json:"responses"`
}

type parameter struct {
	Name     string    `json:"name"`
	In       string    `json:"in"`
	Required bool      `json:"required"`
	Schema   fieldSpec `json:"schema"`
}

type answer struct {
	Description string `json:"description"`
	body
}

type body struct {
	Content map[string]struct {
		Schema fieldSpec `json:"schema"`
	} `json:"content"`
}

// fieldSpec is the schema of a field or, with Properties, of several.
type fieldSpec struct {
	Type       string               `json:"type"`
	Format     string               `json:"format"`
	Enum       []string             `json:"enum"`
	Default    any                  `json:"default"`
	Items      *fieldSpec           `json:"items"`
	Properties map[string]fieldSpec `json:"properties"`
	Required   []string             `json:"required"`
	Display    struct {
		Sensitive bool `json:"sensitive"`
	} `json:"x-vault-displayAttrs"`
}

// document is the OpenAPI document of the engine's paths. No schema in it stands elsewhere: Vault would lose the reference.
func document(t *testing.T, m *mount) specification {
	t.Helper()
	resp, err := m.backend.HandleRequest(t.Context(), &logical.Request{
		Operation: logical.HelpOperation, Storage: m.storage, Data: data{"requestResponsePrefix": "ampora"},
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(resp.Data["openapi"])
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "$ref") {
		t.Errorf("a schema stands elsewhere: %s", text)
	}
	var s specification
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// outline is the document with a line for each path, operation, parameter and answered field, in alphabetical order:
//
//	/tokens/issue POST answers 200 token string
//	/tokens/issue POST is ampora-issue-token: Issue a bootstrap token.
//	/tokens/issue POST takes body ttl string(duration)
func outline(s specification) string {
	var lines []string
	for path, i := range s.Paths {
		if i.Unauthenticated {
			lines = append(lines, path+" needs no Vault token")
		}
		if i.Sudo {
			lines = append(lines, path+" needs sudo")
		}
		for method, op := range map[string]*operation{"GET": i.Get, "POST": i.Post, "PATCH": i.Patch, "DELETE": i.Delete} {
			if op == nil {
				continue
			}
			say := func(format string, args ...any) {
				lines = append(lines, path+" "+method+" "+fmt.Sprintf(format, args...))
			}
			say("is %s: %s", op.ID, op.Summary)
			for _, p := range slices.Concat(i.Parameters, op.Parameters) {
				say("takes %s %s %s", p.In, p.Name, p.Schema.kind(p.Required))
			}
			for _, field := range op.RequestBody.fields() {
				say("takes body %s", field)
			}
			for status, a := range op.Responses {
				say("answers %s: %s", status, a.Description)
				for _, field := range a.body.fields() {
					say("answers %s %s", status, field)
				}
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// fields are those of a body, each with its kind.
func (b body) fields() []string {
	var all []string
	for _, content := range b.Content {
		for name, field := range content.Schema.Properties {
			all = append(all, name+" "+field.kind(slices.Contains(content.Schema.Required, name)))
		}
	}
	return all
}

// kind is a field's type with all that restricts it, such as array of string.
func (f fieldSpec) kind(required bool) string {
	text := f.Type
	if f.Format != "" {
		text += "(" + f.Format + ")"
	}
	if f.Items != nil {
		text += " of " + f.Items.kind(false)
	}
	if len(f.Enum) > 0 {
		text += " one of " + strings.Join(f.Enum, ", ")
	}
	if f.Default != nil {
		text += fmt.Sprintf(" default %v", f.Default)
	}
	if f.Display.Sensitive {
		text += " sensitive"
	}
	if required {
		text += " required"
	}
	return text
}
