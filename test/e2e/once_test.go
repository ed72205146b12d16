package e2e

import (
	"fmt"
	"sync"
	"testing"

	"github.com/ampora/ampora/plugin/apitype"
	"google.golang.org/protobuf/proto"
)

// TestATokenMakesOneAgentWhateverHappensAtOnce tries to redeem one token 64 times at the same moment: through two edges,
// and past them, where no edge holds anybody back.
func TestATokenMakesOneAgentWhateverHappensAtOnce(t *testing.T) {
	t.Parallel()
	in := install(t)
	edges := []*edge{in.edge("one"), in.edge("two")}
	const many = 64

	// all runs them and returns how many were given an identity, and by what codes the others were refused.
	all := func(t *testing.T, redeem func(i int) (apitype.Code, error)) (given int, refused map[apitype.Code]int) {
		refused = map[apitype.Code]int{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range many {
			wg.Go(func() {
				<-start
				code, err := redeem(i)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					t.Error(err)
				case code == "":
					given++
				default:
					refused[code]++
				}
			})
		}
		close(start)
		wg.Wait()
		return given, refused
	}
	check := func(t *testing.T, issued *apitype.IssuedToken, given int, refused map[apitype.Code]int, codes ...apitype.Code) {
		t.Helper()
		t.Logf("%d given, refused %v", given, refused)
		if given != 1 {
			t.Errorf("%d redemptions of one token were given an identity", given)
		}
		for _, code := range codes {
			delete(refused, code)
		}
		if len(refused) != 0 {
			t.Errorf("refused for other reasons: %v", refused)
		}
		in.within(t).wantEnrolled(issued)
	}

	t.Run("through two edges", func(t *testing.T) {
		in := in.within(t)
		issued := in.token()
		given, refused := all(t, func(i int) (apitype.Code, error) {
			body, err := proto.Marshal(message(newCSR()))
			if err != nil {
				return "", err
			}
			a, err := edges[i%2].post("Bearer "+issued.Token, nil, body)
			if err != nil {
				return "", err
			}
			if a.code == "" && len(a.reply.GetConnectionSettings().GetOpamp().GetCertificate().GetCert()) == 0 {
				return "", fmt.Errorf("an answer without a certificate and without a code: %d", a.status)
			}
			return a.code, nil
		})
		check(t, issued, given, refused, apitype.TokenRedeemed, apitype.SessionExists, apitype.RateLimited)
	})
	t.Run("on the engine itself", func(t *testing.T) {
		in := in.within(t)
		issued := in.token()
		given, refused := all(t, func(i int) (apitype.Code, error) {
			_, err := in.engine.Redeem(in.ctx(), apitype.RedeemRequest{
				Token: issued.Token, CSR: string(newCSR()), Capabilities: apitype.CapabilityAcceptsOpAMP,
				IdempotencyKey: fmt.Sprintf("somebody-else-%02d", i),
			})
			if code := apitype.CodeOf(err); code != "" {
				return code, nil
			}
			return "", err
		})
		check(t, issued, given, refused, apitype.TokenRedeemed)
	})
}
