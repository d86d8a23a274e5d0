// Who may do what with the resources of main.bicep. The name of an assignment is the GUID of its
// scope, principal and role: the same deployment again changes nothing, and an identity that was
// made anew after a teardown gets assignments of its own.
targetScope = 'resourceGroup'

@description('Object id of the identity of compute cluster and online endpoints.')
param identityPrincipalId string

@description('The narrow roles, or Contributor on the group.')
@allowed(['narrow', 'contributor'])
param identityRole string

@description('Whether the cluster builds images, and pushes them to the registry.')
param identityPushesImages bool

@description('Whether jobs write their outputs as the identity: account keys do not open the storage.')
param identityWritesBlobs bool

@description('Whether the registry is in this group: roles on another one are given by whoever owns it.')
param ownsRegistry bool

@description('Whether the storage is in this group.')
param ownsStorage bool

@description('Object id of who uploads data and flows; empty assigns nobody.')
param principalId string

@description('What principalId is.')
@allowed(['User', 'Group', 'ServicePrincipal'])
param principalType string

@description('Container registry of the workspace.')
param registryName string

@description('Storage account of the workspace.')
param storageName string

@description('Azure ML workspace.')
param workspaceName string

// Ids: https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
// Storage Blob Data Reader, Storage Blob Data Contributor, Storage File Data Privileged Contributor
var blobReader = '2a2b9908-6ea1-4ae2-8e65-a410df84e7d1'
var blobContributor = 'ba92f5b4-2d11-453d-a403-e96b0029c9fe'
var fileContributor = '69566ab7-960f-475b-8e7c-b3118f30c6bd'
// AcrPull, AcrPush, AzureML Metrics Writer, Contributor
var acrPull = '7f951dda-4ed3-4680-a7ca-43fe172d538d'
var acrPush = '8311e382-0749-4cb8-b61a-304f252e45ec'
var metricsWriter = '635dd51f-9968-44d3-b7fb-6d9a6bd613ae'
var contributor = 'b24988ac-6180-42a0-ab88-20f7382dd24c'

resource storage 'Microsoft.Storage/storageAccounts@2025-06-01' existing = {
  name: storageName
}

resource registry 'Microsoft.ContainerRegistry/registries@2025-11-01' existing = {
  name: registryName
}

resource workspace 'Microsoft.MachineLearningServices/workspaces@2026-05-01' existing = {
  name: workspaceName
}

// What an endpoint with a user-assigned identity needs, which nobody assigns by itself:
// https://learn.microsoft.com/azure/machine-learning/concept-endpoints-online-auth
// blobs/read: a deployment mounts the model, a job reads its data.
resource identityReadsBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (ownsStorage) {
  scope: storage
  name: guid(storage.id, identityPrincipalId, blobReader)
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobReader)
  }
}

// registries/pull/read: deployments and jobs pull the images that Azure ML built.
resource identityPullsImages 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (ownsRegistry) {
  scope: registry
  name: guid(registry.id, identityPrincipalId, acrPull)
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', acrPull)
  }
}

// registries/push/write: where the registry builds no images, the cluster does, and puts them there.
resource identityPushes 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (identityPushesImages && ownsRegistry) {
  scope: registry
  name: guid(registry.id, identityPrincipalId, acrPush)
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', acrPush)
  }
}

// blobs/write: without account keys a job writes its outputs, the fine-tuned model among them, as
// the identity of its cluster. Contributor has no data actions, so it does not replace this one.
// https://learn.microsoft.com/azure/machine-learning/how-to-disable-local-auth-storage
resource identityWritesOutputs 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (identityWritesBlobs && ownsStorage) {
  scope: storage
  name: guid(storage.id, identityPrincipalId, blobContributor)
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobContributor)
  }
}

// workspaces/metrics/*/write: an endpoint reports its CPU, GPU and memory.
resource identityWritesMetrics 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (identityRole == 'narrow') {
  scope: workspace
  name: guid(workspace.id, identityPrincipalId, metricsWriter)
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', metricsWriter)
  }
}

// What Microsoft's tutorial assigns. It lets whoever gets code to run in an endpoint or a job change
// and delete everything in the group; no step here needs it.
resource identityContributes 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (identityRole == 'contributor') {
  name: guid(resourceGroup().id, identityPrincipalId, contributor)
  properties: {
    principalId: identityPrincipalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', contributor)
  }
}

// blobs/write: azure-ai-ml uploads data and code as you.
resource principalWritesBlobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(principalId) && ownsStorage) {
  scope: storage
  name: guid(storage.id, principalId, blobContributor)
  properties: {
    principalId: principalId
    principalType: principalType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', blobContributor)
  }
}

// fileshares/files/write: pfazure uploads a flow into the share workspaceworkingdirectory as you,
// with the intent of a backup, which only the privileged role allows.
resource principalWritesFiles 'Microsoft.Authorization/roleAssignments@2022-04-01' = if (!empty(principalId) && ownsStorage) {
  scope: storage
  name: guid(storage.id, principalId, fileContributor)
  properties: {
    principalId: principalId
    principalType: principalType
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', fileContributor)
  }
}
