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

@description('Take back a deleted vault of the same name that was not purged.')
param recoverKeyVault bool = false

resource storage 'Microsoft.Storage/storageAccounts@2025-06-01' = {
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
    // Data and flows are uploaded from your machine; no virtual network to reach it through.
    publicNetworkAccess: 'Enabled'
    supportsHttpsTrafficOnly: true
  }
}

resource keyVault 'Microsoft.KeyVault/vaults@2025-05-01' = {
  name: keyVaultName
  location: location
  tags: tags
  properties: {
    // A deleted vault keeps its name until it is purged or 7 days have passed. Purge protection,
    // which can never be switched off again, would forbid the purge after a teardown: left off.
    createMode: recoverKeyVault ? 'recover' : 'default'
    enableRbacAuthorization: true
    enableSoftDelete: true
    publicNetworkAccess: 'Enabled' // the services of Azure ML come from outside too
    sku: { family: 'A', name: 'standard' }
    softDeleteRetentionInDays: 7
    tenantId: subscription().tenantId
  }
}

resource logs 'Microsoft.OperationalInsights/workspaces@2025-07-01' = {
  name: logsName
  location: location
  tags: tags
  properties: {
    retentionInDays: 30 // what is free
    sku: { name: 'PerGB2018' }
    workspaceCapping: { dailyQuotaGb: 1 } // bounds what a chatty container costs
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
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

resource registry 'Microsoft.ContainerRegistry/registries@2025-11-01' = {
  name: registryName
  location: location
  tags: tags
  sku: { name: 'Basic' } // private access would need Premium
  properties: {
    adminUserEnabled: false
    publicNetworkAccess: 'Enabled'
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
resource workspace 'Microsoft.MachineLearningServices/workspaces@2026-05-01' = {
  name: workspaceName
  location: location
  tags: tags
  kind: 'Default'
  sku: { name: 'Basic', tier: 'Basic' }
  identity: { type: 'SystemAssigned' }
  properties: {
    applicationInsights: insights.id
    containerRegistry: registry.id
    friendlyName: workspaceName
    keyVault: keyVault.id
    publicNetworkAccess: 'Enabled'
    storageAccount: storage.id
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
    applicationInsights: insights.id
    containerRegistry: registry.id
    friendlyName: hubName
    keyVault: keyVault.id
    publicNetworkAccess: 'Enabled'
    storageAccount: storage.id
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
    publicNetworkAccess: 'Enabled'
  }
}

// A module, because only its parameters can carry the principal into the names of the assignments.
module roles 'roles.bicep' = {
  name: 'roles'
  params: {
    identityPrincipalId: identity.properties.principalId
    identityRole: identityRole
    identityWritesBlobs: !allowSharedKeyAccess
    principalId: principalId
    principalType: principalType
    registryName: registry.name
    storageName: storage.name
    workspaceName: workspace.name
  }
}

output computeName string = empty(computeSku) ? '' : computeName
output hubName string = createHub ? hubName : ''
output identityClientId string = identity.properties.clientId
output identityId string = identity.id
output keyVaultName string = keyVaultName
output projectName string = createHub ? projectName : ''
output registryName string = registryName
output storageName string = storageName
output workspaceName string = workspaceName
