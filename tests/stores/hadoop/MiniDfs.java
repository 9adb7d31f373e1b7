import java.io.File;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.MiniDFSCluster;

/** HDFS with one data node, until standard input ends: MiniDfs FOLDER PORT. */
public final class MiniDfs {
  public static void main(String[] arguments) throws Exception {
    Configuration configuration = new Configuration();
    configuration.setBoolean("dfs.permissions.enabled", false);
    MiniDFSCluster cluster =
        new MiniDFSCluster.Builder(configuration, new File(arguments[0]))
            .nameNodePort(Integer.parseInt(arguments[1]))
            .numDataNodes(1)
            .format(true)
            .build();
    cluster.waitActive();
    System.out.println("READY " + cluster.getURI());
    while (System.in.read() >= 0) {}
    cluster.shutdown();
  }
}
