// Everything around the model: where data, models and images are kept, who may read them, the
// workspace that fine-tunes and serves, and the hub and project that the flows are uploaded to.
// Deployed into a resource group by `azd up` or by `python -m setup provision` (as main.json, which
// `python -m tests.azure.bicep_in_step` holds in step with this file; so does a test).
targetScope = 'resourceGroup'

@description('Where everything is; the GPU quota is counted per region.')
param location string = resourceGroup().location

@description('Put on every resource that takes tags.')
param tags object = {}

@description('Storage account: data, job outputs, models, the files of flows.')
param storageName string = 'st${uniqueString(resourceGroup().id)}'

@description('Key vault: the secrets of connections.')
param keyVaultName string = 'kv-${uniqueString(resourceGroup().id)}'

@description('Container registry: images that Azure ML builds for jobs and deployments.')
param registryName string = 'cr${uniqueString(resourceGroup().id)}'

@description('Azure ML workspace: jobs, registered models, online endpoints.')
param workspaceName string = 'mlw-${uniqueString(resourceGroup().id)}'

@description('Log Analytics workspace: where Application Insights keeps its data.')
param logsName string = '${workspaceName}-logs'

@description('Application Insights: requests and logs of endpoints.')
param insightsName string = '${workspaceName}-insights'

@description('User-assigned identity of the compute cluster and of online endpoints.')
param identityName string = '${workspaceName}-identity'

@description('AI hub: what its projects share.')
param hubName string = 'hub-${uniqueString(resourceGroup().id)}'

@description('AI project: connections and flows.')
param projectName string = 'proj-${uniqueString(resourceGroup().id)}'

@description('Whether to make the hub and the project.')
param createHub bool = true

@description('Compute cluster for fine-tuning.')
param computeName string = 'gpu'

@description('VM size of the cluster; empty makes no cluster.')
param computeSku string = ''

@description('Most nodes the cluster grows to; it shrinks to none.')
@minValue(1)
@maxValue(100)
param computeNodes int = 1

@description('Seconds without work before a node is given back.')
@minValue(60)
param computeIdleSeconds int = 120

@description('What the identity may do: the narrow roles of roles.bicep, or Contributor on the group.')
@allowed(['narrow', 'contributor'])
param identityRole string = 'narrow'

@description('Object id of who uploads data and flows; empty assigns nobody.')
param principalId string = ''

@description('What principalId is.')
@allowed(['User', 'Group', 'ServicePrincipal'])
param principalType string = 'User'

@description('Whether account keys open the storage. Off: only Microsoft Entra does.')
param allowSharedKeyAccess bool = false

@description('Whether everything has a public address. Disabled: you bring a network with private endpoints.')
@allowed(['Enabled', 'Disabled'])
param publicNetworkAccess string = 'Enabled'

@description('Whether nobody may purge the deleted vault for 7 days. On, it can never be switched off.')
param enablePurgeProtection bool = false

@description('Cluster that builds images, where the registry does not; empty leaves it to the registry.')
param imageBuildCompute string = ''

@description('Id of a storage account to use instead of making one.')
param existingStorageId string = ''

@description('Id of a key vault to use instead of making one.')
param existingKeyVaultId string = ''

@description('Id of a container registry to use instead of making one.')
param existingRegistryId string = ''

@description('Id of an Application Insights to use instead of making one, with its logs.')
param existingInsightsId string = ''

@description('Whether to make the workspace; else it is there, in this group.')
param createWorkspace bool = true

@description('Take back a deleted vault of the same name that was not purged.')
param recoverKeyVault bool = false

// What is used: what this makes, or what was there.
var storageId = empty(existingStorageId) ? storage.id : existingStorageId
var keyVaultId = empty(existingKeyVaultId) ? keyVault.id : existingKeyVaultId
var registryId = empty(existingRegistryId) ? registry.id : existingRegistryId
var insightsId = empty(existingInsightsId) ? insights.id : existingInsightsId
var isolationMode = publicNetworkAccess == 'Enabled' ? 'Disabled' : 'AllowInternetOutbound'

resource storage 'Microsoft.Storage/storageAccounts@2025-06-01' = if (empty(existingStorageId)) {
  name: storageName
  location: location
  tags: tags
  sku: { name: 'Standard_LRS' }
  kind: 'StorageV2'
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    // Azure ML reaches it with the identities below, azure-ai-ml and pfazure as whoever logged in.
    allowSharedKeyAccess: allowSharedKeyAccess
    defaultToOAuthAuthentication: true
    isLocalUserEnabled: false
    minimumTlsVersion: 'TLS1_2'
    // Data and flows are uploaded from your machine, unless that stands in a network of yours.
    publicNetworkAccess: publicNetworkAccess
    supportsHttpsTrafficOnly: true
  }
}

resource keyVault 'Microsoft.KeyVault/vaults@2025-05-01' = if (empty(existingKeyVaultId)) {
  name: keyVaultName
  location: location
  tags: tags
  properties: {
    // A deleted vault keeps its name until it is purged or 7 days have passed. Purge protection,
    // which can never be switched off again, would forbid the purge after a teardown: on demand.
    createMode: recoverKeyVault ? 'recover' : 'default'
    enablePurgeProtection: enablePurgeProtection ? true : null
    enableRbacAuthorization: true
    enableSoftDelete: true
    publicNetworkAccess: publicNetworkAccess // the services of Azure ML come from outside too
    sku: { family: 'A', name: 'standard' }
    softDeleteRetentionInDays: 7
    tenantId: subscription().tenantId
  }
}

resource logs 'Microsoft.OperationalInsights/workspaces@2025-07-01' = if (empty(existingInsightsId)) {
  name: logsName
  location: location
  tags: tags
  properties: {
    retentionInDays: 30 // what is free
    sku: { name: 'PerGB2018' }
    workspaceCapping: { dailyQuotaGb: 1 } // bounds what a chatty container costs
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = if (empty(existingInsightsId)) {
  name: insightsName
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    IngestionMode: 'LogAnalytics'
    WorkspaceResourceId: logs.id
  }
}

resource registry 'Microsoft.ContainerRegistry/registries@2025-11-01' = if (empty(existingRegistryId)) {
  name: registryName
  location: location
  tags: tags
  sku: { name: publicNetworkAccess == 'Enabled' ? 'Basic' : 'Premium' } // which private access needs
  properties: {
    adminUserEnabled: false
    publicNetworkAccess: publicNetworkAccess
    roleAssignmentMode: 'LegacyRegistryPermissions' // the other mode ignores AcrPull
  }
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: identityName
  location: location
  tags: tags
}

// The system-assigned identities of workspace, hub and project get their own roles from Azure ML:
// https://learn.microsoft.com/azure/machine-learning/how-to-identity-based-service-authentication
resource workspace 'Microsoft.MachineLearningServices/workspaces@2026-05-01' = if (createWorkspace) {
  name: workspaceName
  location: location
  tags: tags
  kind: 'Default'
  sku: { name: 'Basic', tier: 'Basic' }
  identity: { type: 'SystemAssigned' }
  properties: {
    applicationInsights: insightsId
    containerRegistry: registryId
    friendlyName: workspaceName
    imageBuildCompute: empty(imageBuildCompute) ? null : imageBuildCompute
    keyVault: keyVaultId
    managedNetwork: { isolationMode: isolationMode }
    publicNetworkAccess: publicNetworkAccess
    storageAccount: storageId
    systemDatastoresAuthMode: allowSharedKeyAccess ? 'AccessKey' : 'Identity'
  }
}

resource compute 'Microsoft.MachineLearningServices/workspaces/computes@2026-05-01' = if (!empty(computeSku)) {
  parent: workspace
  name: computeName
  location: location
  tags: tags
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: { '${identity.id}': {} }
  }
  properties: {
    computeType: 'AmlCompute'
    disableLocalAuth: true // no administrator account on the nodes
    properties: {
      osType: 'Linux'
      remoteLoginPortPublicAccess: 'Disabled' // no SSH from outside
      scaleSettings: {
        maxNodeCount: computeNodes
        minNodeCount: 0
        nodeIdleTimeBeforeScaleDown: 'PT${computeIdleSeconds}S'
      }
      vmPriority: 'Dedicated' // low priority loses hours of training
      vmSize: computeSku
    }
  }
}

resource hub 'Microsoft.MachineLearningServices/workspaces@2026-05-01' = if (createHub) {
  name: hubName
  location: location
  tags: tags
  kind: 'Hub'
  sku: { name: 'Basic', tier: 'Basic' }
  identity: { type: 'SystemAssigned' }
  properties: {
    applicationInsights: insightsId
    containerRegistry: registryId
    friendlyName: hubName
    keyVault: keyVaultId
    managedNetwork: { isolationMode: isolationMode }
    publicNetworkAccess: publicNetworkAccess
    storageAccount: storageId
    systemDatastoresAuthMode: allowSharedKeyAccess ? 'AccessKey' : 'Identity'
  }
}

resource project 'Microsoft.MachineLearningServices/workspaces@2026-05-01' = if (createHub) {
  name: projectName
  location: location
  tags: tags
  kind: 'Project'
  sku: { name: 'Basic', tier: 'Basic' }
  identity: { type: 'SystemAssigned' }
  properties: {
    friendlyName: projectName
    hubResourceId: hub.id // storage, vault, insights and registry are the hub's
    publicNetworkAccess: publicNetworkAccess
  }
}

// A module, because only its parameters can carry the principal into the names of the assignments.
module roles 'roles.bicep' = {
  name: 'roles'
  dependsOn: [registry, storage, workspace]
  params: {
    identityPrincipalId: identity.properties.principalId
    identityRole: identityRole
    identityPushesImages: !empty(imageBuildCompute)
    identityWritesBlobs: !allowSharedKeyAccess
    ownsRegistry: empty(existingRegistryId)
    ownsStorage: empty(existingStorageId)
    principalId: principalId
    principalType: principalType
    registryName: registryName
    storageName: storageName
    workspaceName: workspaceName
  }
}

output computeName string = empty(computeSku) ? '' : computeName
output hubName string = createHub ? hubName : ''
output identityClientId string = identity.properties.clientId
output identityId string = identity.id
output keyVaultName string = last(split(keyVaultId, '/'))
output projectName string = createHub ? projectName : ''
output registryName string = last(split(registryId, '/'))
output storageName string = last(split(storageId, '/'))
output workspaceName string = workspaceName
