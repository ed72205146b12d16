package apitype

import (
	"errors"
	"fmt"
	"net/http"
	"sort"
	"strings"
)

// Code names one reason for which a request was refused. Codes are part of the API: they never change their meaning.
type Code string

// The codes, in the order of DESIGN.md section 11; the catalogue below says how each travels and what to do next.
const (
	NameInvalid              Code = "name_invalid"
	FieldInvalid             Code = "field_invalid"
	NotConfigured            Code = "not_configured"
	ConfigFixed              Code = "config_fixed"
	IssuerMissing            Code = "issuer_missing"
	IssuerInvalid            Code = "issuer_invalid"
	IssuerUnknown            Code = "issuer_unknown"
	InUse                    Code = "in_use"
	TokenMissing             Code = "token_missing"
	TokenMalformed           Code = "token_malformed"
	TokenChecksum            Code = "token_checksum"
	TokenUnknown             Code = "token_unknown"
	TokenExpired             Code = "token_expired"
	TokenRevoked             Code = "token_revoked"
	TokenRedeemed            Code = "token_redeemed"
	CIDRMismatch             Code = "cidr_mismatch"
	TenantRequired           Code = "tenant_required"
	TenantMismatch           Code = "tenant_mismatch"
	GroupMissing             Code = "group_missing"
	GroupUnknown             Code = "group_unknown"
	ConfigurationMissing     Code = "configuration_missing"
	ConfigurationUnknown     Code = "configuration_unknown"
	PoolUnknown              Code = "pool_unknown"
	PoolSecretInvalid        Code = "pool_secret_invalid"
	PoolRevoked              Code = "pool_revoked"
	PoolFull                 Code = "pool_full"
	TTLOutOfRange            Code = "ttl_out_of_range"
	CSRInvalid               Code = "csr_invalid"
	CSRRequired              Code = "csr_required"
	KeyNotAllowed            Code = "key_not_allowed"
	RenewalProofMissing      Code = "renewal_proof_missing"
	EdgeNameNotAllowed       Code = "edge_name_not_allowed"
	AgentUnknown             Code = "agent_unknown"
	AgentRevoked             Code = "agent_revoked"
	AgentMoved               Code = "agent_moved"
	CertificateRevoked       Code = "certificate_revoked"
	CertificateExpired       Code = "certificate_expired"
	CertificateUntrusted     Code = "certificate_untrusted"
	CapabilityMissing        Code = "capability_missing"
	PeerUnknown              Code = "peer_unknown"
	PeerSuspended            Code = "peer_suspended"
	BundleInvalid            Code = "bundle_invalid"
	BundleOutdated           Code = "bundle_outdated"
	HandoverUnknown          Code = "handover_unknown"
	HandoverMalformed        Code = "handover_malformed"
	HandoverSignatureInvalid Code = "handover_signature_invalid"
	HandoverExpired          Code = "handover_expired"
	HandoverWrongAudience    Code = "handover_wrong_audience"
	HandoverReplayed         Code = "handover_replayed"
	HandoverPending          Code = "handover_pending"
	HandoverCancelled        Code = "handover_cancelled"
	HandoverLapsed           Code = "handover_lapsed"
	HandoverForced           Code = "handover_forced"
	HandoverFinished         Code = "handover_finished"
	HandoverUnsupported      Code = "handover_unsupported"
	RenewalPending           Code = "renewal_pending"
	FingerprintMismatch      Code = "fingerprint_mismatch"
	MessageInvalid           Code = "message_invalid"
	MessageTimeout           Code = "message_timeout"
	BodyTooLarge             Code = "body_too_large"
	RateLimited              Code = "rate_limited"
	SessionExists            Code = "session_exists"
	VaultUnavailable         Code = "vault_unavailable"
	OutcomeUnknown           Code = "outcome_unknown"
	NotReady                 Code = "not_ready"
	SchemaTooNew             Code = "schema_too_new"
	Draining                 Code = "draining"
	Internal                 Code = "internal"
)

// entry is how a code travels. vault is the HTTP status on Vault: 400, 404, 409 or 410, because clients of Vault read
// 401, 403, 412, 429 and 5xx as "your Vault token is dead" or repeat the call; 503 is kept for faults that a repeat mends.
// edge is the status on the edge, towards agents.
type entry struct {
	vault int
	edge  int
	next  string
}

var catalogue = map[Code]entry{
	NameInvalid:              {400, 400, "use 1 to 64 of a-z, 0-9, '_' and '-', beginning and ending with a letter or digit, not a UUID and not beginning with 'amp-'"},
	FieldInvalid:             {400, 400, "correct the named field and send the request again"},
	NotConfigured:            {400, 503, "write the named fields to ampora/config first"},
	ConfigFixed:              {409, 409, "this cannot change any more; mount a second engine for another value"},
	IssuerMissing:            {400, 503, "make one with 'vault write -f ampora/ca/root', or sign one with 'vault write -f ampora/ca/intermediate'"},
	IssuerInvalid:            {400, 400, "give the certificate that was signed for the CSR of ca/intermediate, followed by its chain up to the root"},
	IssuerUnknown:            {404, 404, "list the issuers with 'vault list ampora/ca/issuers'"},
	InUse:                    {409, 409, "remove or change what is named here first"},
	TokenMissing:             {400, 401, "send the bootstrap token as 'Authorization: Bearer amp-bs...', or connect with a client certificate"},
	TokenMalformed:           {400, 401, "copy the whole token again; it reads amp-bs.<base32>.<checksum>, all in lower case"},
	TokenChecksum:            {400, 401, "the token was not copied intact: copy it again, the original still works"},
	TokenUnknown:             {404, 401, "issue a fresh token with 'vault write -f ampora/tokens/issue'; this one was never issued here or has long gone"},
	TokenExpired:             {410, 401, "issue a fresh token; if this happens often, issue with a longer ttl"},
	TokenRevoked:             {410, 401, "issue a fresh token; the reason stands in the token's row and in audit/events"},
	TokenRedeemed:            {409, 401, "issue a fresh token; each makes one agent, and this one has made its own. If that was not you, look in audit/events"},
	CIDRMismatch:             {400, 403, "redeem from an address inside the token's bound_cidrs, or issue a token bound to this one"},
	TenantRequired:           {400, 400, "name the tenant: ampora/tenants/<tenant>/..."},
	TenantMismatch:           {400, 403, "use the path or the edge of the tenant that the token belongs to"},
	GroupMissing:             {400, 400, "make the group first, or leave the field out"},
	GroupUnknown:             {404, 404, "list the groups with 'vault list ampora/groups' (those of a tenant: ampora/tenants/<tenant>/groups)"},
	ConfigurationMissing:     {400, 400, "make the configuration first, or leave the field out"},
	ConfigurationUnknown:     {404, 404, "list the configurations with 'vault list ampora/configurations' (those of a tenant: ampora/tenants/<tenant>/configurations)"},
	PoolUnknown:              {404, 404, "list the pools with 'vault list ampora/pools' (those of a tenant: ampora/tenants/<tenant>/pools)"},
	PoolSecretInvalid:        {400, 401, "send the pool's admin secret as it was shown when the pool was made or its secret rotated; 'vault write -f ampora/pools/<pool>/rotate-secret' makes a new one"},
	PoolRevoked:              {410, 401, "issue a fresh token from the pool; those from before were ended together. The reason stands in the pool's row and in audit/events"},
	PoolFull:                 {409, 409, "wait until tokens are redeemed or expire, end them with pools/<pool>/revoke, or raise the pool's max_outstanding"},
	TTLOutOfRange:            {400, 400, "choose a ttl between the configured minimum and maximum (vault read ampora/config)"},
	CSRInvalid:               {400, 400, "send one PEM 'CERTIFICATE REQUEST' signed by its own key"},
	CSRRequired:              {400, 400, "send a CSR: key_origin is 'csr', so no key is made on the server"},
	KeyNotAllowed:            {400, 400, "use an ECDSA P-256 or P-384, Ed25519, or RSA-3072 or -4096 key; config.key_origin says who may make it"},
	RenewalProofMissing:      {400, 403, "send a CSR for the key of the current certificate, or sign the new key with it (the README of edge/ shows how); the current certificate goes on"},
	EdgeNameNotAllowed:       {400, 400, "ask only for names within the host of config.endpoint and config.edge_allowed_domains"},
	AgentUnknown:             {404, 403, "list the agents with 'vault list ampora/agents'"},
	AgentRevoked:             {410, 403, "enrol it anew with a fresh token if it should come back"},
	AgentMoved:               {409, 403, "look at its row: state_text names the peer that has it now; it comes back by a handover from there"},
	CertificateRevoked:       {410, 403, "enrol the agent anew with a fresh token if it should come back"},
	CertificateExpired:       {410, 401, "enrol the agent anew with a fresh token"},
	CertificateUntrusted:     {400, 401, "present a certificate that this installation issued, or a bootstrap token"},
	CapabilityMissing:        {400, 400, "the agent must be able to take a certificate: set AcceptsOpAMPConnectionSettings (for the OpAMP supervisor, capabilities.accepts_opamp_connection_settings: true); the token is untouched"},
	PeerUnknown:              {404, 403, "list the peers with 'vault list ampora/peers', and make one from the other side's bundle file: 'vault write ampora/peers/<name> @bundle.json'"},
	PeerSuspended:            {409, 403, "'vault write ampora/peers/<name> suspended=false' lets it in again"},
	BundleInvalid:            {400, 400, "ask the other side for its bundle file again ('vault read -format=json -field=data ampora/federation/bundle')"},
	BundleOutdated:           {409, 409, "the pinned bundle is newer; nothing is to be done unless the other side was restored from a backup (see the federation page)"},
	HandoverUnknown:          {404, 404, "list the handovers with 'vault list ampora/handovers'"},
	HandoverMalformed:        {400, 400, "copy the whole handover token again, as agents/<id>/handover answered it in handover_token, or the whole handover file"},
	HandoverSignatureInvalid: {400, 403, "see that this side has the newest bundle of the peer (vault read ampora/peers/<name>), and that the token was copied intact"},
	HandoverExpired:          {410, 410, "make a fresh handover token at the source; ttl and handover_ttl say how long one lives"},
	HandoverWrongAudience:    {400, 403, "redeem the token at the peer that it was made for, or make one for this peer at the source"},
	HandoverReplayed:         {409, 409, "each handover token works once; look at handovers/<id> for what became of it, and make a fresh one at the source"},
	HandoverPending:          {409, 503, "look at handovers/<id> for its state, and wait, or end it: 'vault delete ampora/handovers/<id>'; a released one only the target ends, or 'vault write ampora/handovers/<id> force=true' when the target is lost for good"},
	HandoverCancelled:        {409, 403, "make a fresh handover token at the source if the agent should still move"},
	HandoverLapsed:           {410, 403, "make a fresh handover token at the source if the agent should still move; there the agent is active again"},
	HandoverForced:           {409, 403, "the source has taken the agent back; agree with its operators who is to have it"},
	HandoverFinished:         {409, 409, "the agent has arrived; hand it back with 'vault write ampora/agents/<id>/handover peer=<name>'"},
	FingerprintMismatch:      {409, 403, "the agent has another certificate by now than the token says: make a fresh handover token at the source"},
	HandoverUnsupported:      {400, 403, "enrol it anew at the peer, with a bootstrap token from there, and delete it here"},
	RenewalPending:           {409, 409, "wait until the agent has its next certificate for good (15 minutes after it has first come with it), then try again"},
	MessageInvalid:           {400, 400, "send an OpAMP AgentToServer message as the specification describes"},
	MessageTimeout:           {400, 408, "send the first OpAMP message right after connecting; the token is untouched"},
	BodyTooLarge:             {400, 413, "send less in one message"},
	RateLimited:              {400, 429, "wait as long as Retry-After says, then try again"},
	SessionExists:            {400, 429, "another connection is redeeming this token right now; wait as long as Retry-After says"},
	VaultUnavailable:         {503, 503, "nothing was used up; try again as Retry-After says, and look at the edge's /readyz"},
	OutcomeUnknown:           {503, 503, "storage gave no clear answer; send the same request again with the same idempotency_key"},
	NotReady:                 {503, 503, "the engine is still loading; try again in a second"},
	SchemaTooNew:             {409, 503, "a newer plugin wrote this row; run that version again (see the README on upgrades)"},
	Draining:                 {503, 503, "this edge is going down; connect again, another one takes over"},
	Internal:                 {503, 500, "nothing is known to be lost; look in the server log at this time and report the bug"},
}

// Codes lists every code of the catalogue in alphabetical order.
func Codes() []Code {
	all := make([]Code, 0, len(catalogue))
	for c := range catalogue {
		all = append(all, c)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	return all
}

// VaultStatus is the HTTP status with which the code travels on Vault: 400, 404, 409 or 410 for a refusal, 503 for a
// passing fault.
func (c Code) VaultStatus() int { return status(catalogue[c].vault) }

// EdgeStatus is the HTTP status with which the code travels on the edge.
func (c Code) EdgeStatus() int { return status(catalogue[c].edge) }

// Next is the sentence that says what to do about it, without a full stop.
func (c Code) Next() string { return catalogue[c].next }

// Known reports whether the code stands in the catalogue.
func (c Code) Known() bool { _, ok := catalogue[c]; return ok }

func status(s int) int {
	if s == 0 {
		return http.StatusInternalServerError
	}
	return s
}

// Error is a refusal with its code. Its text is safe to show and to log: it never quotes a secret or a foreign value.
type Error struct {
	// Code is the reason.
	Code Code
	// Detail says in one clause what was wrong here, and may be empty.
	Detail string
}

// Errorf makes an Error. The arguments must not carry secrets: Vault's audit log prints error texts in the clear.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Error is "<code>: <detail>: <what to do next>", as it travels on Vault.
func (e *Error) Error() string {
	text := string(e.Code) + ": "
	if e.Detail != "" {
		text += e.Detail + ": "
	}
	return text + e.Code.Next()
}

// Is makes errors.Is(err, &Error{Code: c}) true for every error of that code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && (t.Detail == "" || t.Detail == e.Detail)
}

// ParseError restores an Error from the text of one, as Vault's clients see it, also inside other text. It answers nil
// when the text carries no known code.
func ParseError(text string) *Error {
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimPrefix(strings.TrimSpace(line), "* ")
		head, rest, found := strings.Cut(line, ": ")
		if !found || !Code(head).Known() {
			continue
		}
		code := Code(head)
		detail := strings.TrimSuffix(strings.TrimSuffix(rest, code.Next()), ": ")
		return &Error{Code: code, Detail: detail}
	}
	return nil
}

// CodeOf is the code of the Error in err's chain, or "" when there is none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
