# A token issuer: an installer, or a provisioning script. It makes bootstrap tokens with any label, group and tenant, and nothing else: it
# cannot list, read or revoke the ones it made. For a pipeline, a pool and its pool-issuer policy are narrower.
#
# 'vault write -f -field=token ampora/tokens/issue' is an update, also without data.

path "ampora/tokens/issue" {
  capabilities = ["update"]
}

# For one tenant, this in the place of the above:
#
# path "ampora/tenants/acme/tokens/issue" { capabilities = ["update"] }
