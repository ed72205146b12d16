package apitype

// Paths below the mount. Those marked T in DESIGN.md section 4 exist a second time under tenants/<tenant>/; see Scoped.
const (
	PathConfig             = "config"
	PathCARoot             = "ca/root"
	PathCAIntermediate     = "ca/intermediate"
	PathCASetSigned        = "ca/intermediate/set-signed"
	PathCAIssuers          = "ca/issuers"
	PathCABundle           = "ca/bundle"
	PathCABundlePEM        = "ca/bundle/pem"
	PathTokens             = "tokens"            // T
	PathTokensIssue        = "tokens/issue"      // T
	PathTokensRevokeAll    = "tokens/revoke-all" // T
	PathPools              = "pools"             // T; below it <pool>, <pool>/issue, /admin/issue, /rotate-secret, /revoke
	PathGroups             = "groups"            // T
	PathConfigurations     = "configurations"    // T
	PathAgentsGroup        = "agents/group"      // T
	PathAgentsRevoke       = "agents/revoke"     // T
	PathAgentsSummary      = "agents/summary"    // T
	PathAfterRestore       = "config/after-restore"
	PathRedeem             = "redeem"       // T
	PathRedeemCheck        = "redeem/check" // T
	PathAgents             = "agents"       // T
	PathEdgeSync           = "edge/sync"
	PathEdgeReport         = "edge/report" // T
	PathEdgeCertificate    = "edge/certificate"
	PathEdgeConfigurations = "edge/configurations" // T; below it <configuration>
	PathEdgeCRL            = "edge/crl"
	PathEdgeOCSP           = "edge/ocsp"
	PathEdges              = "edges" // T
	PathFederationBundle   = "federation/bundle"
	PathPeers              = "peers"             // below it <peer>, <peer>/bundle
	PathHandovers          = "handovers"         // T; below it <handover_id>
	PathHandoverInspect    = "handover/inspect"  // T
	PathHandoverRedeem     = "handover/redeem"   // T
	PathHandoverIssue      = "handover/issue"    // T
	PathHandoverManifest   = "handover/manifest" // T
	PathHandoverProgress   = "handover/progress" // T
	PathHandoverReceipt    = "handover/receipt"
	PathHandoverOutbox     = "handover/outbox"
	PathAuditEvents        = "audit/events" // T
	DefaultMount           = "ampora"
	CapabilityAcceptsOpAMP = uint64(0x100) // AgentCapabilities_AcceptsOpAMPConnectionSettings, OpAMP specification
	CapabilityRemoteConfig = uint64(0x2)   // AgentCapabilities_AcceptsRemoteConfig, OpAMP specification
	// CapabilityReportsRemoteConfig is AgentCapabilities_ReportsRemoteConfig: the agent says what becomes of one.
	CapabilityReportsRemoteConfig = uint64(0x1000)
)

// Scoped is path as the tenant sees it: tenants/<tenant>/<path>, or path itself without a tenant.
func Scoped(tenant, path string) string {
	if tenant == "" {
		return path
	}
	return "tenants/" + tenant + "/" + path
}
