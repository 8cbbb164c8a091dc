//! A cloud in memory, for tests: `memory://NAME`. It can fail at any chosen operation, and let somebody else work in
//! the middle of another's.

use async_trait::async_trait;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, Mutex},
};
use tokio::sync::Notify;

/// All that exist. Names are the tests' own.
static CLOUDS: LazyLock<Mutex<HashMap<String, Arc<dyn ObjectStore>>>> = LazyLock::new(Mutex::default);

/// The cloud of that name.
pub(super) fn named(name: &str) -> Option<Arc<dyn ObjectStore>> {
    CLOUDS.lock().unwrap().get(name).cloned()
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The operation does nothing, and fails.
    Refused,
    /// The operation is done, and its answer gets lost.
    Unanswered,
    /// The process dies before the operation: neither this nor a later one is done.
    DiesBefore,
    /// The process dies after the operation.
    DiesAfter,
    /// The operation waits until it is let through.
    Waits,
}

/// One user's way to a cloud, with one fault.
#[derive(Clone)]
pub(crate) struct Memory {
    objects: Arc<InMemory>,
    plan: Arc<Mutex<Plan>>,
    /// Rung when an operation begins to wait.
    pub(crate) reached: Arc<Notify>,
    /// To be rung to let it through.
    pub(crate) go: Arc<Notify>,
}

#[derive(Default)]
struct Plan {
    operations: usize,
    fault: Option<(usize, Fault)>,
    has_happened: bool,
    is_dead: bool,
}

impl Memory {
    /// An empty cloud, of no name yet.
    pub(crate) fn new() -> Self {
        Self::over(InMemory::new())
    }

    /// A copy of all that it holds, for another try.
    pub(crate) fn fork(&self) -> Self {
        Self::over(self.objects.fork())
    }

    /// Another user's way to the same cloud, without faults.
    pub(crate) fn for_another_user(&self) -> Self {
        Self { objects: Arc::clone(&self.objects), ..Self::new() }
    }

    fn over(objects: InMemory) -> Self {
        Self { objects: Arc::new(objects), plan: Arc::default(), reached: Arc::default(), go: Arc::default() }
    }

    /// The same, whose operation number `at` goes wrong.
    pub(crate) fn with(self, at: usize, fault: Fault) -> Self {
        self.plan.lock().unwrap().fault = Some((at, fault));
        self
    }

    /// Whether the fault has happened.
    pub(crate) fn has_failed(&self) -> bool {
        self.plan.lock().unwrap().has_happened
    }

    /// Makes it known under a name, and gives its URL.
    pub(crate) fn publish_as(&self, name: &str) -> String {
        CLOUDS.lock().unwrap().insert(name.into(), Arc::new(self.clone()));
        format!("memory://{name}")
    }

    /// The fault that meets the operation which begins now.
    fn begins(&self) -> Result<Option<Fault>> {
        let mut plan = self.plan.lock().unwrap();
        plan.operations += 1;
        if plan.is_dead {
            return Err(broken());
        }
        let Some((_, fault)) = plan.fault.filter(|(at, _)| *at == plan.operations) else { return Ok(None) };
        plan.has_happened = true;
        plan.is_dead = matches!(fault, Fault::DiesBefore | Fault::DiesAfter);
        match fault {
            Fault::Refused | Fault::DiesBefore => Err(broken()),
            Fault::Unanswered | Fault::DiesAfter | Fault::Waits => Ok(Some(fault)),
        }
    }

    async fn perform<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        match self.begins()? {
            None => operation.await,
            Some(Fault::Waits) => {
                self.reached.notify_one();
                self.go.notified().await;
                operation.await
            }
            Some(_) => {
                let _ = operation.await;
                Err(broken())
            }
        }
    }
}

fn broken() -> Error {
    Error::Generic { store: "memory", source: "the line broke".into() }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memory")
    }
}

#[async_trait]
impl ObjectStore for Memory {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.perform(self.objects.put_opts(location, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.perform(self.objects.put_multipart_opts(location, options)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.perform(self.objects.get_opts(location, options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.objects.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let listed = async move { this.perform(async { Ok(this.objects.list(prefix.as_ref())) }).await };
        stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.perform(self.objects.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.perform(self.objects.copy_opts(from, to, options)).await
    }
}
