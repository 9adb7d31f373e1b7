import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Map;
import java.util.regex.Pattern;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.DelegateToFileSystem;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.RawLocalFileSystem;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.hdfs.MiniDFSCluster;
import org.apache.hadoop.yarn.conf.YarnConfiguration;
import org.apache.hadoop.yarn.server.MiniYARNCluster;

/**
 * YARN with one node manager on HDFS with one data node, until standard input ends: MiniYarn FOLDER NAMENODE_PORT. What a
 * client needs to know lies in FOLDER/conf when it says READY.
 */
public final class MiniYarn {
  /** All that clients are told. With the tests' own settings among them Spark looks for classes that it does not have. */
  private static final Pattern TOLD =
      Pattern.compile("fs\\.defaultFS|yarn\\.(resourcemanager|scheduler)\\..*|yarn\\.application\\.classpath");

  public static void main(String[] arguments) throws Exception {
    File folder = new File(arguments[0]);
    Configuration configuration = new YarnConfiguration();
    configuration.setBoolean("dfs.permissions.enabled", false);
    MiniDFSCluster dfs =
        new MiniDFSCluster.Builder(configuration, new File(folder, "dfs"))
            .nameNodePort(Integer.parseInt(arguments[1]))
            .numDataNodes(1)
            .format(true)
            .build();
    dfs.waitActive();
    FileSystem.setDefaultUri(configuration, dfs.getURI());

    configuration.set("yarn.scheduler.capacity.root.queues", "default");
    configuration.set("yarn.scheduler.capacity.root.default.capacity", "100");
    configuration.set("yarn.scheduler.capacity.maximum-am-resource-percent", "0.9");
    configuration.setInt("yarn.scheduler.minimum-allocation-mb", 256);
    configuration.setInt("yarn.nodemanager.resource.memory-mb", 8192);
    configuration.setInt("yarn.nodemanager.resource.cpu-vcores", 8);
    configuration.setBoolean("yarn.nodemanager.vmem-check-enabled", false);
    configuration.setBoolean("yarn.nodemanager.pmem-check-enabled", false);
    configuration.setFloat("yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage", 99.5f);
    // Logs and folders of containers stay until the test has looked at them.
    configuration.setInt("yarn.nodemanager.delete.debug-delay-sec", 3600);
    configuration.set("yarn.application.classpath", "");
    configuration.set("fs.AbstractFileSystem.file.impl", PlainDisk.class.getName());
    MiniYARNCluster yarn = new MiniYARNCluster("batchscore", 1, 1, 1);
    yarn.init(configuration);
    yarn.start();
    if (!yarn.waitForNodeManagersToConnect(60_000)) {
      throw new IllegalStateException("the node manager did not come up");
    }

    Configuration told = new Configuration(false);
    for (Map.Entry<String, String> entry : yarn.getConfig()) {
      if (TOLD.matcher(entry.getKey()).matches()) {
        told.set(entry.getKey(), yarn.getConfig().get(entry.getKey()));
      }
    }
    told.set("fs.defaultFS", dfs.getURI().toString());
    File conf = new File(folder, "conf");
    conf.mkdirs();
    for (String name : new String[] {"core-site.xml", "yarn-site.xml"}) {
      try (FileOutputStream file = new FileOutputStream(new File(conf, name))) {
        told.writeXml(file);
      }
    }
    System.out.println("READY " + dfs.getURI());
    while (System.in.read() >= 0) {
      // until whoever started it goes away
    }
    yarn.stop();
    dfs.shutdown();
  }

  /**
   * This disk. Hadoop without its native library starts a program for the permissions of each file that it unpacks: a
   * packed Python has 12,000.
   */
  public static final class PlainDisk extends DelegateToFileSystem {
    public PlainDisk(URI uri, Configuration configuration) throws IOException, URISyntaxException {
      super(URI.create("file:///"), new Files(), configuration, "file", false);
    }

    private static final class Files extends RawLocalFileSystem {
      @Override
      public void setPermission(Path path, FsPermission permission) throws IOException {
        java.nio.file.Files.setPosixFilePermissions(
            pathToFile(path).toPath(), PosixFilePermissions.fromString(permission.toString().substring(0, 9)));
      }
    }
  }
}
