package federation_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ampora/ampora/plugin/apitype"
	"github.com/ampora/ampora/plugin/handover"
	"github.com/ampora/ampora/plugin/internal/ca"
)

func TestACardMakesAPeer(t *testing.T) {
	us, them := pair(t)
	card, got := them.card(), us.row("them")
	if got.PeerID != "them" || got.TrustDomain != card.TrustDomain || got.Endpoint != card.Endpoint || got.FederationURL != card.FederationURL ||
		got.CABundle != card.CABundle || got.EndpointCABundle != card.CABundle || got.BundleSequence == 0 || got.Suspended || got.BundleTime == "" {
		t.Errorf("%+v", got)
	}
	for _, list := range [][]string{got.AllowedTenants, got.AllowedGroups, got.AllowedConfigurations} {
		if !slices.Equal(list, []string{"*"}) {
			t.Errorf("allowed: %v", list)
		}
	}
	// What they sign counts here.
	text, err := them.Sign(t.Context(), nil, handover.TypeReceipt, handover.Receipt{Issuer: "them", Step: handover.StepRedeemed})
	us.must(err)
	var receipt handover.Receipt
	us.must(handover.Verify(text, handover.TypeReceipt, us.peer("them").Pinned, &receipt))
	byID, err := us.ByID(t.Context(), "them")
	if err != nil || byID.Name != "them" || receipt.Step != handover.StepRedeemed {
		t.Errorf("%+v, %v", byID, err)
	}
	us.no(apitype.PeerUnknown, second(us.ByID(t.Context(), "")))
	us.no(apitype.PeerUnknown, second(us.ByID(t.Context(), "us")))
	us.no(apitype.PeerUnknown, second(us.Get(t.Context(), "nobody")))
	us.no(apitype.NameInvalid, second(us.Get(t.Context(), "No/Name")))

	if again := us.meet(them); again.UpdatedAt != got.UpdatedAt || us.told()[apitype.ActionPeerUpdated] != 0 {
		t.Errorf("the same card again changed something: %+v", again)
	}
	events := us.events()
	if len(events) != 1 || events[0].Action != apitype.ActionPeerCreated || events[0].EntityID != "them" || events[0].Details["endpoint"] != card.Endpoint {
		t.Errorf("%+v", events)
	}
	us.configure(func(c *apitype.Config) { c.PeerID = "" })
	us.no(apitype.NotConfigured, second(us.Self(t.Context())))
}

func second[T any](_ T, err error) error { return err }

func TestAPeerIDIsOnesAlone(t *testing.T) {
	us, them := pair(t)
	card := whole(them.card())
	if text := us.no(apitype.InUse, second(us.Write(t.Context(), operator, "again", card))); !strings.Contains(text, "peer them has this peer_id") {
		t.Error(text)
	}
	us.no(apitype.FieldInvalid, second(us.Write(t.Context(), operator, "us", whole(us.card()))))
	third := installation(t, "third", us.clock)
	us.no(apitype.FieldInvalid, second(us.Write(t.Context(), operator, "them", whole(third.card()))))
	us.no(apitype.InUse, us.FreeID(t.Context(), "them"))
	us.must(us.FreeID(t.Context(), "third"))
	us.must(us.Delete(t.Context(), operator, "them"))
	us.must(second(us.Write(t.Context(), operator, "again", card)))
}

func TestOnlyTheFieldsThatAreGivenChange(t *testing.T) {
	us, _ := pair(t)
	before := us.row("them")
	for _, change := range []apitype.PeerRequest{
		{Endpoint: ptr("wss://new.example/v1/opamp")}, {FederationURL: ptr("")}, {AllowedGroups: &[]string{"web", ""}}, {AllowedTenants: &[]string{}},
		{AllowedConfigurations: &[]string{"base"}}, {TrustDomain: ptr("new.example")}, {EndpointCABundle: ptr("")},
	} {
		us.must(second(us.Write(t.Context(), operator, "them", change)))
	}
	got := us.row("them")
	want := before
	want.Endpoint, want.FederationURL, want.TrustDomain, want.EndpointCABundle = "wss://new.example/v1/opamp", "", "new.example", ""
	want.AllowedGroups, want.AllowedTenants, want.AllowedConfigurations, want.UpdatedAt = []string{"web", ""}, []string{}, []string{"base"}, got.UpdatedAt
	if g, w := text(t, got), text(t, want); g != w {
		t.Errorf("%s\n%s", g, w)
	}
	if n := us.told()[apitype.ActionPeerUpdated]; n != 7 {
		t.Errorf("%d events", n)
	}
	p := us.peer("them")
	for name, allowed := range map[string][3]bool{ // tenant, group, configuration
		"": {false, true, false}, "web": {false, true, false}, "base": {false, false, true}, "*": {false, false, false},
	} {
		if got := [3]bool{p.AllowsTenant(name), p.AllowsGroup(name), p.AllowsConfiguration(name)}; got != allowed {
			t.Errorf("%q: %v", name, got)
		}
	}
	us.must(second(us.Write(t.Context(), operator, "them", apitype.PeerRequest{AllowedTenants: &[]string{"*"}})))
	if p := us.peer("them"); !p.AllowsTenant("") || !p.AllowsTenant("acme") {
		t.Error("'*' does not allow everything")
	}
}

func TestWhatIsNoPeerIsRefused(t *testing.T) {
	clock := new(time.Duration)
	us, them := installation(t, "us", clock), installation(t, "them", clock)
	card := them.card()
	secret := "amp-ps." + strings.Repeat("a", 52) + ".aaaaaaa"
	key, err := ca.MarshalKey(them.issuer("").Key)
	us.must(err)
	for name, c := range map[string]struct {
		code   apitype.Code
		change func(*apitype.PeerRequest)
	}{
		"no peer_id":                    {apitype.FieldInvalid, func(in *apitype.PeerRequest) { in.PeerID = nil }},
		"no trust domain":               {apitype.FieldInvalid, func(in *apitype.PeerRequest) { in.TrustDomain = nil }},
		"no endpoint":                   {apitype.FieldInvalid, func(in *apitype.PeerRequest) { in.Endpoint = nil }},
		"no keys":                       {apitype.FieldInvalid, func(in *apitype.PeerRequest) { in.CABundle = nil }},
		"a peer_id that is no name":     {apitype.NameInvalid, func(in *apitype.PeerRequest) { in.PeerID = ptr("A b") }},
		"an endpoint over ws":           {apitype.FieldInvalid, func(in *apitype.PeerRequest) { in.Endpoint = ptr("ws://a.example/") }},
		"an endpoint with a user":       {apitype.FieldInvalid, func(in *apitype.PeerRequest) { in.Endpoint = ptr("wss://u:p@a.example/") }},
		"an empty endpoint":             {apitype.FieldInvalid, func(in *apitype.PeerRequest) { in.Endpoint = ptr("") }},
		"an endpoint with a secret":     {apitype.FieldInvalid, func(in *apitype.PeerRequest) { in.Endpoint = ptr("wss://a.example/" + secret) }},
		"a federation url over http":    {apitype.FieldInvalid, func(in *apitype.PeerRequest) { in.FederationURL = ptr("http://a.example/") }},
		"a federation url with a query": {apitype.FieldInvalid, func(in *apitype.PeerRequest) { in.FederationURL = ptr("https://a.example/?a=b") }},
		"a federation url's fragment":   {apitype.FieldInvalid, func(in *apitype.PeerRequest) { in.FederationURL = ptr("https://a.example/#a") }},
		"roots that are no PEM":         {apitype.FieldInvalid, func(in *apitype.PeerRequest) { in.EndpointCABundle = ptr("hello") }},
		"roots without end":             {apitype.FieldInvalid, func(in *apitype.PeerRequest) { in.EndpointCABundle = ptr(strings.Repeat(card.CABundle, 1000)) }},
		"a trust domain with a slash":   {apitype.FieldInvalid, func(in *apitype.PeerRequest) { in.TrustDomain = ptr("a/b") }},
		"another trust domain":          {apitype.BundleInvalid, func(in *apitype.PeerRequest) { in.TrustDomain = ptr("a.example") }},
		"a group that is no name":       {apitype.FieldInvalid, func(in *apitype.PeerRequest) { in.AllowedGroups = &[]string{"A/b"} }},
		"groups without end":            {apitype.FieldInvalid, func(in *apitype.PeerRequest) { in.AllowedGroups = ptr(make([]string, 257)) }},
		"a private key":                 {apitype.BundleInvalid, func(in *apitype.PeerRequest) { in.CABundle = ptr(card.CABundle + key) }},
		"a private key as a root":       {apitype.BundleInvalid, func(in *apitype.PeerRequest) { in.EndpointCABundle = &key }},
		"a private key as the bundle":   {apitype.BundleInvalid, func(in *apitype.PeerRequest) { in.BundleJWS = &key }},
		"a token as the bundle":         {apitype.FieldInvalid, func(in *apitype.PeerRequest) { in.BundleJWS = &secret }},
	} {
		in := whole(card)
		c.change(&in)
		text := us.no(c.code, second(us.Write(t.Context(), operator, "them", in)))
		if strings.Contains(text, secret) || strings.Contains(text, "MIG") {
			t.Errorf("%s: the error quotes the secret: %s", name, text)
		}
		us.no(apitype.PeerUnknown, second(us.Read(t.Context(), "them")))
	}
	us.no(apitype.NameInvalid, second(us.Write(t.Context(), operator, "No name", whole(card))))
	if len(us.events()) != 0 {
		t.Errorf("%+v", us.events())
	}
}

func TestSuspendingAndDeletingEndWhatIsPending(t *testing.T) {
	us, them := pair(t)
	suspend := apitype.PeerRequest{Suspended: ptr(true)}
	us.must(second(us.Write(t.Context(), operator, "them", suspend)))
	us.must(second(us.Write(t.Context(), operator, "them", suspend))) // nothing changes, and something may have been left
	_, _, err := us.Hold(t.Context(), "them")
	us.no(apitype.PeerSuspended, err)
	us.no(apitype.PeerSuspended, us.follow(them))
	if !us.peer("them").Suspended || !slices.Equal(us.gone, []string{"them suspended", "them suspended"}) {
		t.Errorf("%v", us.gone)
	}
	again := us.restart()
	again.must(again.Sweep(t.Context()))
	if !slices.Equal(again.gone, []string{"them suspended"}) {
		t.Errorf("a restart ended %v", again.gone)
	}
	us.must(second(us.Write(t.Context(), operator, "them", apitype.PeerRequest{Suspended: ptr(false)})))
	peer, release, err := us.Hold(t.Context(), "them")
	us.must(err)
	if peer.Suspended {
		t.Error("still suspended")
	}
	release()

	us.gone, us.refuse = nil, apitype.Errorf(apitype.InUse, "agents are between both sides")
	us.no(apitype.InUse, us.Delete(t.Context(), operator, "them"))
	_, release, err = us.Hold(t.Context(), "them") // as if nobody had tried
	us.must(err)
	release()
	us.refuse = nil
	us.must(us.Delete(t.Context(), operator, "them"))
	us.must(us.Delete(t.Context(), operator, "them"))
	us.no(apitype.PeerUnknown, second(us.Get(t.Context(), "them")))
	_, _, err = us.Hold(t.Context(), "them")
	us.no(apitype.PeerUnknown, err)
	if !slices.Equal(us.gone, []string{"them deleted", "them deleted"}) {
		t.Errorf("%v", us.gone)
	}
	var actions []string
	for _, e := range us.events() {
		actions = append(actions, e.Action)
	}
	if !slices.Equal(actions, []string{"Peer.Deleted", "Peer.Updated", "Peer.Suspended", "Peer.Created"}) {
		t.Errorf("%v", actions)
	}
}

// While somebody holds a peer it stays as it is; and once its deletion has begun nobody comes to hold it.
func TestNothingBeginsWithAPeerThatIsBeingDeleted(t *testing.T) {
	us, _ := pair(t)
	_, release, err := us.Hold(t.Context(), "them")
	us.must(err)
	deleted := make(chan error)
	go func() { deleted <- us.Delete(t.Context(), operator, "them") }()
	select {
	case err := <-deleted:
		t.Fatalf("deleted while it was held: %v", err)
	case <-time.After(20 * time.Millisecond): // if it is to happen, it may happen later: the test cannot fail by slowness
	}
	us.must(second(us.Get(t.Context(), "them")))
	release()
	us.must(<-deleted)
	_, _, err = us.Hold(t.Context(), "them")
	us.no(apitype.PeerUnknown, err)
}

func TestPeersAreListedAndSyncedByName(t *testing.T) {
	us, them := pair(t)
	third := installation(t, "a-third", us.clock)
	us.meet(third)
	us.must(second(us.Write(t.Context(), operator, "a-third", apitype.PeerRequest{Suspended: ptr(true)})))
	l, err := us.List(t.Context(), apitype.Page{})
	us.must(err)
	if !slices.Equal(l.Keys, []string{"a-third", "them"}) || l.KeyInfo["them"].PeerID != "them" {
		t.Errorf("%+v", l)
	}
	all, err := us.Sync(t.Context())
	us.must(err)
	card := them.card()
	want := []apitype.SyncPeer{{
		Name: "a-third", PeerID: "a-third", Endpoint: third.card().Endpoint, EndpointCABundle: third.card().EndpointCABundle, Suspended: true,
		FederationURL: third.card().FederationURL, CABundle: third.card().CABundle, BundleSequence: us.row("a-third").BundleSequence,
	}, {
		Name: "them", PeerID: "them", Endpoint: card.Endpoint, EndpointCABundle: card.EndpointCABundle,
		FederationURL: card.FederationURL, CABundle: card.CABundle, BundleSequence: us.row("them").BundleSequence,
	}}
	if !slices.Equal(all, want) {
		t.Errorf("%+v", all)
	}
	empty, err := installation(t, "alone", us.clock).Sync(t.Context())
	if err != nil || empty == nil || len(empty) != 0 {
		t.Errorf("%v, %v: no peers are an empty list, which is not nothing", empty, err)
	}
}
