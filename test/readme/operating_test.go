package readme

import (
	"strings"
	"testing"
)

// TestWhatTheOperatorsPageTellsWorks goes through the drills as they are written. Beside them stand agents that they mean and
// agents that they do not: those must not notice.
func TestWhatTheOperatorsPageTellsWorks(t *testing.T) {
	t.Parallel()
	w := installed(t)
	d := &drill{world: w}
	d.must(`mkdir -p drill && vault read -field=bundle ampora/ca/bundle | tee drill/ca.pem > etc/ampora/edge-ca.pem
		vault write -f ampora/groups/web
		vault write -f -field=admin_secret ampora/pools/ci > /dev/null
		for name in STAYS AGENT ANOTHER; do vault write -f -field=token ampora/tokens/issue > drill/$name; done
		vault write -field=token ampora/tokens/issue group=web > drill/GROUPED
		vault write -f -field=token ampora/pools/ci/issue > drill/POOLED
		vault write -f -field=token ampora/pools/ci/issue > drill/LEAKED
		vault write -f -field=token ampora/tokens/issue > etc/ampora/newcomer
		UNSEAL_KEY=` + w.vault.UnsealKey)
	for _, name := range []string{"STAYS", "AGENT", "ANOTHER", "GROUPED", "POOLED"} {
		d.enrol(name)
		d.comesIn(name)
	}
	_, all := page(t, "cmd/README.md")
	for _, b := range all {
		if b.kind == "" || b.kind == "output" {
			continue
		}
		w.do(b)
		switch b.name {
		case "one":
			d.isOut("AGENT")
			d.comesIn("ANOTHER")
		case "many":
			for _, name := range []string{"AGENT", "ANOTHER", "GROUPED", "POOLED"} {
				d.isOut(name)
			}
			if out, err := w.bash(`ampora enroll --endpoint wss://` + w.listen + `/v1/opamp --ca-file drill/ca.pem --token-file drill/LEAKED --out drill/leaked`); err == nil || !strings.Contains(out, "pool_revoked") {
				t.Errorf("a token of the pool: %v\n%s", err, out)
			}
			d.comesIn("STAYS")
		case "sealed":
			d.comesIn("STAYS")
			d.isOut("AGENT")
		case "newcomer":
			if !strings.Contains(w.last, "not yet") || !strings.Contains(w.last, "vault_unavailable") {
				t.Errorf("while Vault is away a newcomer hears\n%s", w.last)
			}
		}
	}
	d.comesIn("STAYS")
	d.isOut("AGENT")
}

func (d *drill) comesIn(name string) {
	d.t.Helper()
	d.eventually(name+" comes in", func() error { return d.answers(name, "") })
}

func (d *drill) isOut(name string) {
	d.t.Helper()
	d.eventually(name+" is out", func() error { return d.answers(name, "certificate_revoked") })
}
