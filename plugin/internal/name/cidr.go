package name

import (
	"net/netip"

	"github.com/ampora/ampora/plugin/apitype"
)

// maxCIDRs is how many networks something may be bound to.
const maxCIDRs = 64

// CIDRs answers networks in their one spelling. The error names the field, never the value.
func CIDRs(field string, texts []string) ([]string, error) {
	if len(texts) > maxCIDRs {
		return nil, apitype.Errorf(apitype.FieldInvalid, "%s has more than %d entries", field, maxCIDRs)
	}
	var cidrs []string
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, apitype.Errorf(apitype.FieldInvalid, "%s must be networks like 10.0.0.0/8", field)
		}
		cidrs = append(cidrs, p.Masked().String())
	}
	return cidrs, nil
}
