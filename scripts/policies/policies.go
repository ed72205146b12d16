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

	TenantOperator = "tenant-operator" // of one tenant, see ForTenant
	PoolIssuer     = "pool-issuer"     // of one pool, see ForPool
)

// The tenant and the pool that the files speak of.
const (
	exampleTenant = "acme"
	examplePool   = "ci"
)

//go:embed *.hcl
var files embed.FS

// Policy is one policy.
type Policy struct {
	Name string // in Vault, such as ampora-edge
	Role string // one of the names above
	Text string // HCL
}

// All are the policies for an engine mounted at mount (without a slash at its ends), by name in alphabetical order. Those
// for one tenant or one pool are not among them.
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
		if role == TenantOperator || role == PoolIssuer {
			continue
		}
		all = append(all, Policy{Name: Name(mount, role), Role: role, Text: at(mount, string(text))})
	}
	return all, nil
}

// ForTenant is the policy of one tenant's operator, whose name must be a valid one.
func ForTenant(mount, tenant string) (Policy, error) {
	text, err := files.ReadFile(TenantOperator + ".hcl")
	if err != nil {
		return Policy{}, err
	}
	theirs := strings.ReplaceAll(at(mount, string(text)), "/tenants/"+exampleTenant+"/", "/tenants/"+tenant+"/")
	return Policy{Name: Name(mount, TenantOperator) + "-" + tenant, Role: TenantOperator, Text: theirs}, nil
}

// ForPool is the policy of who issues from one pool of a tenant, or from a tenantless one. The names must be valid ones.
func ForPool(mount, tenant, pool string) (Policy, error) {
	text, err := files.ReadFile(PoolIssuer + ".hcl")
	if err != nil {
		return Policy{}, err
	}
	name, path := pool, `/pools/`+pool+`/issue"`
	if tenant != "" {
		name, path = tenant+"."+pool, "/tenants/"+tenant+path // no name has a dot, so no two pools share a policy
	}
	theirs := strings.ReplaceAll(string(text), `"ampora/pools/`+examplePool+`/issue"`, `"ampora`+path)
	return Policy{Name: Name(mount, PoolIssuer) + "-" + name, Role: PoolIssuer, Text: at(mount, theirs)}, nil
}

// Name is what a policy is called in Vault: two mounts in one Vault do not share their policies.
func Name(mount, role string) string { return strings.ReplaceAll(mount, "/", "-") + "-" + role }

// at moves the text to another mount. Paths stand in quotes, so prose that speaks of ampora/ stays as it is.
func at(mount, text string) string {
	return strings.ReplaceAll(text, `"ampora/`, `"`+mount+`/`)
}
