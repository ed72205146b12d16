// Package policies carries the Vault policies of this folder, so that 'ampora setup' writes the same text that
//
//	vault policy write ampora-edge scripts/policies/edge.hcl
//
// writes. The files speak of an engine mounted at ampora/.
package policies

import (
	"embed"
	"io/fs"
	"path"
	"strings"
)

// Names of the policies, without the prefix that New gives them.
const (
	Edge        = "edge"
	TokenIssuer = "token-issuer"
	Operator    = "operator"
	Auditor     = "auditor"
)

//go:embed *.hcl
var files embed.FS

// Policy is one policy.
type Policy struct {
	Name string // in Vault, such as ampora-edge
	Role string // one of the names above
	Text string // HCL
}

// All are the policies for an engine mounted at mount (without a slash at its ends), by name in alphabetical order.
func All(mount string) ([]Policy, error) {
	names, err := fs.Glob(files, "*.hcl")
	if err != nil {
		return nil, err
	}
	var all []Policy
	for _, file := range names {
		text, err := files.ReadFile(file)
		if err != nil {
			return nil, err
		}
		role := strings.TrimSuffix(path.Base(file), ".hcl")
		all = append(all, Policy{Name: Name(mount, role), Role: role, Text: at(mount, string(text))})
	}
	return all, nil
}

// Name is what a policy is called in Vault: two mounts in one Vault do not share their policies.
func Name(mount, role string) string { return strings.ReplaceAll(mount, "/", "-") + "-" + role }

// at moves the text to another mount. Paths stand in quotes, so prose that speaks of ampora/ stays as it is.
func at(mount, text string) string {
	return strings.ReplaceAll(text, `"ampora/`, `"`+mount+`/`)
}
